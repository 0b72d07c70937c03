"""gpu_check.sh without a GPU: what it runs, and what it says where a step
cannot run."""
import csv
import os
import re
import stat
import subprocess
import sys

import pytest
from conftest import REPO

SCRIPT = REPO / 'tools/misc/gpu_check.sh'
# In place of Python: notes what it is to run, and does what the test wants.
STUB = """#!/usr/bin/env bash
echo "$*" >> "$LOG"
case "$*" in
  *import\\ mmdet.models*) exit "$WITHOUT_STACK" ;;
  *check_cuda_operators*) exit "$WITHOUT_STACK" ;;
  "-c import $WITHOUT") exit 1 ;;
  *"$HANGS"*) echo | sleep 1000 ;;
  *"$FAILS"*) echo "what went wrong" >&2; exit 3 ;;
esac
"""


def check(*args, **environment):
    done = subprocess.run(
        [SCRIPT, *map(str, args)], capture_output=True, text=True,
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1',
             **environment})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def stub(tmp_path):
    """Runs the script with the stub; and what the stub was called with."""
    python = tmp_path / 'python'
    python.write_text(STUB)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    log = tmp_path / 'calls'

    def run(*args, without_stack=0, without='nothing', fails='nothing',
            hangs='nothing', **environment):
        code, output, _ = check(
            '--out', tmp_path / 'out', *args, PYTHON=str(python),
            LOG=str(log), WITHOUT_STACK=str(without_stack), WITHOUT=without,
            FAILS=fails, HANGS=hangs, **environment)
        return code, output, log.read_text()

    return run


@pytest.mark.slow
def test_layers(tmp_path):
    """The very commands, with tiny sizes."""
    code, output, errors = check('--device', 'cpu', '--out', tmp_path,
                                 'layers')
    assert code == 0, output + errors
    for name, task, count in (
            ('inference', 'inference', 4 * 2),  # bf16 and fp32
            ('training', 'training', 3 * 2),
            ('batch-statistics', 'training', 3)):
        assert f'layers-{name}: done in' in output
        with open(tmp_path / f'layers-{name}.csv', newline='') as f:
            rows = list(csv.DictReader(f))
        assert len(rows) == count
        assert all(row['case'].startswith(f'layer, {task}, eager')
                   for row in rows)
    summary = (tmp_path / 'summary.txt').read_text()
    assert summary.splitlines()[0].startswith('gpu_check on cpu: layers')


@pytest.mark.slow
def test_all_parts_on_a_cpu(tmp_path):
    code, output, errors = check('--device', 'cpu', '--out', tmp_path)
    assert code == 0, output + errors
    for name in ('tests', 'layers-training', 'backbones-inference',
                 'backbones-training', 'short-coco', 'coco'):
        assert f'{name}: done in' in output
    assert 'iteration [1][2/2]' in output


def test_on_a_gpu(stub):
    """What would run there: all modes, dtypes and batches, and AMP."""
    code, _, calls = stub()
    assert code == 0
    for part in ('layers', 'backbones'):
        assert f'/{part}-' in calls
    for words in ('--execution eager cuda-graphs', '--dtype bf16 fp16 tf32',
                  '--batch 1 2 8', '--execution compile', '--device cuda',
                  '--task training', '--regime batch-statistics',
                  ':textbook', ':deploy', 'demo.py'):
        assert words in calls, words
    trainings = [line for line in calls.splitlines() if 'train.py' in line]
    assert ['--amp' in line for line in trainings] == [False, True]


def test_kernels_are_compiled_on_all_cores(stub):
    _, _, calls = stub('tests')
    assert 'test_triton.py -n ' in calls
    _, _, calls = stub('tests', without='xdist')
    assert 'test_triton.py -n' not in calls.splitlines()[-1]


def test_without_mmdetection(stub):
    """The parts that need it say so; the others run."""
    code, output, calls = stub(without_stack=1)
    assert code == 1
    assert 'layers-training: done in' in output
    for part in ('backbones', 'training'):
        assert f'{part}: NOT RUN: ' in output
    assert 'train.py' not in calls


def test_operators_that_crash(stub):
    """As those of a compiler that links libstdc++ twice."""
    _, output, _ = stub('training', without_stack=139)
    assert 'training: NOT RUN: no CUDA operators of mmcv: Python was ended ' \
        'by signal 11 in mmcv or MMDetection (see stack.log' in output


def test_without_what_a_part_needs(stub):
    """Said before anything runs, with the command that installs it."""
    code, output, calls = stub('tests', 'layers', without='matplotlib')
    assert code == 1
    assert 'tests: done in' in output
    assert 'layers: NOT RUN: no matplotlib: ' in output
    assert '-m pip install rich matplotlib' in output
    assert 'benchmark.py' not in calls


def test_minutes(stub):
    """Of all steps together; the shell has counted 55 s when it begins."""
    code, output, _ = stub('--minutes', '1', 'layers', SECONDS='55')
    assert code == 1
    assert 'layers-inference: NOT RUN: no time left' in output
    _, output, _ = stub('--minutes', '2', 'layers', SECONDS='55')
    assert '== layers-training, for at most 6' in output


def test_slow_steps_on_a_cpu(stub, tmp_path):
    """The clock jumps by 2 minutes in each; 4 times the limits of a GPU."""
    clock = tmp_path / 'clock'
    clock.write_text(
        'echo() { SECONDS=$((SECONDS + 120)); builtin echo "$@"; }\n')
    _, output, _ = stub('--device', 'cpu', 'layers', BASH_ENV=str(clock))
    assert re.findall(r'for at most (.*) s', output) == ['240', '380', '380']


def test_times_take_less_than_6_minutes(stub):
    """All steps of layers and backbones together; one gets what those before
    it have left."""
    _, output, _ = stub('layers', 'backbones')
    limits = [int(n) for n in re.findall(r'for at most (\d+) s', output)]
    assert len(limits) == 6
    assert sorted(limits) == limits and limits[-1] < 360
    _, output, _ = stub('backbones')
    assert int(re.findall(r'for at most (\d+) s', output)[-1]) < 360


def test_wheels_are_installed(stub, tmp_path):
    """Where MMDetection is missing, once for each kind of operators."""
    (tmp_path / 'wheels').mkdir()
    _, output, calls = stub('--wheels', tmp_path / 'wheels', without_stack=1)
    installs = [line for line in calls.splitlines() if 'offline_stack' in line]
    assert [line.split()[-1] for line in installs] == ['cpu', 'cuda']
    assert '(see stack.log, install-*.log; --wheels' in output


def test_a_step_that_fails_does_not_stop_the_others(stub):
    code, output, _ = stub('layers', fails='--task training')
    assert code == 1
    assert 'layers-inference: done' in output
    assert 'layers-training: FAILED with code 3 after' in output
    assert 'what went wrong' in output


def test_a_step_that_hangs_is_stopped(stub, tmp_path, monkeypatch):
    """By its time limit, a second here."""
    timeout = tmp_path / 'bin' / 'timeout'
    timeout.parent.mkdir()
    timeout.write_text('#!/bin/sh\nshift 3\nexec /usr/bin/timeout 1 "$@"\n')
    timeout.chmod(0o755)
    monkeypatch.setenv('PATH', str(timeout.parent), prepend=os.pathsep)
    code, output, _ = stub('layers', hangs='--task training')
    assert code == 1
    assert 'layers-training: STOPPED after' in output


@pytest.mark.parametrize('args,message', [
    (['layer'], 'layer: parts are tests, layers, backbones, training'),
    (['--device', 'tpu'], '--device tpu: cuda or cpu'),
    (['--out'], '--out needs a value'),
    (['--minutes', '0'], '--minutes 0: a number of minutes'),
    (['--wheels', 'nowhere'], '--wheels nowhere: no such folder'),
])
def test_wrong_arguments(args, message):
    code, _, errors = check(*args)
    assert code == 2
    assert errors.startswith(f'gpu_check: {message}')
