"""Freed memory that is used again; in processes of their own, as it cannot be
turned off."""
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmdet_scconv import memory

# one pass over a map of 64 MB, again and again
FAULTS = '''
import resource
import numpy as np
{before}
def use():
    np.empty(1 << 24, np.float32).fill(1)
use()
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
'''


def page_faults(before=''):
    """8 times: how often the system had to bring a page."""
    done = subprocess.run(
        [sys.executable, '-c', FAULTS.format(before=before)],
        capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc',
                    reason='is for glibc')
def test_freed_memory_is_used_again():
    kept = page_faults(f'import runpy\nrunpy.run_path({memory.__file__!r})'
                       '["keep_freed_memory"]()')
    assert kept < 100 < page_faults()


def test_without_glibc(monkeypatch):
    """musl has no mallopt, Windows no library of this process."""
    for fault in (AttributeError, OSError, TypeError):
        def fail(name, fault=fault):
            raise fault
        monkeypatch.setattr(memory.ctypes, 'CDLL', fail)
        memory.keep_freed_memory()


@pytest.mark.parametrize('device,called', [('cpu', 1), ('meta', 0)])
def test_models_on_a_gpu_leave_it(device, called, monkeypatch):
    calls = []
    monkeypatch.setattr(memory, 'keep_freed_memory',
                        lambda: calls.append(True))
    memory.keep_freed_memory_of(nn.Linear(1, 1, device=torch.device(device)))
    assert len(calls) == called
