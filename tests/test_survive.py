"""Trainings that are killed, or spread over processes, as a user runs them.

Minutes long. The figures: ``pytest -m slow -s tests/test_survive.py``.
"""
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import REPO, free_port

CONFIG = str(REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py')
KILLS = 20
EPOCHS = 30
ITERATIONS = 4  # an epoch: 8 images, 2 at a time

pytestmark = pytest.mark.slow


def options(epochs, **changes):
    settings = {
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs,
        'train_dataloader.batch_size': 2,
        'default_hooks.logger.interval': 1,
        'randomness.seed': 0,
        'randomness.deterministic': True,
        **{
            f'{loader}_dataloader.{key}': value
            for loader in ('train', 'val')
            for key, value in dict(
                num_workers=0, persistent_workers=False).items()
        },
        **changes
    }
    return ['--cfg-options', *(f'{k}={v}' for k, v in settings.items())]


@dataclass
class Training:
    """A process of a tool, in a folder with the data in it."""

    process: subprocess.Popen
    log: object

    def text(self):
        return self.log.read_text()

    def wait_for(self, found, seconds=900):
        """Until ``found()`` or the end; returns what it returned."""
        deadline = time.monotonic() + seconds
        while not (result := found()) and self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()[-3000:]
            time.sleep(0.001)
        return result

    def finish(self, seconds=900):
        return self.process.wait(seconds)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path, data_home):
    (tmp_path / 'data').symlink_to(data_home / 'data')
    started = []

    def run(*args, **variables):
        tool = str(REPO / 'tools' / args[0])
        python = [sys.executable] if tool.endswith('.py') else []
        log = tmp_path / f'{len(started)}.log'
        with open(log, 'w') as out:
            process = subprocess.Popen(
                [*python, tool, *map(str, args[1:])],
                cwd=tmp_path,
                env=dict(
                    os.environ,
                    PYTHON=sys.executable,
                    OMP_NUM_THREADS='1',
                    CUDA_VISIBLE_DEVICES='',
                    **variables),
                stdout=out,
                stderr=subprocess.STDOUT)
        started.append(process)
        return Training(process, log)

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()


def parts(folder, since=0.):
    """Half-written checkpoints; those of an earlier kill are older."""
    found = []
    for path in folder.glob('*.pth.part'):
        with suppress(FileNotFoundError):  # complete by now
            if path.stat().st_mtime > since:
                found.append(path)
    return found


def assert_same(a, b, path=''):
    """Bit by bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b)):
            assert_same(*pair, f'{path}[{i}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def test_killed_at_random_moments(start, tmp_path):
    """Every other kill comes while a checkpoint is written."""
    rng = random.Random(0)  # noqa: S311 (no secret)
    begin = time.monotonic()
    whole = start('train.py', CONFIG, '--work-dir', 'whole', *options(EPOCHS))
    assert whole.wait_for(lambda: 'Epoch(train)' in whole.text())
    start_up = time.monotonic() - begin
    assert whole.finish() == 0, whole.text()[-3000:]
    epoch = (time.monotonic() - begin - start_up) / EPOCHS

    killed = tmp_path / 'killed'
    while_saving = resumed = 0
    for i in range(KILLS):
        since = time.time()
        run = start('train.py', CONFIG, '--work-dir', 'killed', '--resume',
                    *options(EPOCHS))
        if i % 4 == 0:  # in the start-up
            time.sleep(rng.uniform(0, 0.8 * start_up))
        else:
            # how many are saved before; seconds tell nothing under load
            before = rng.randint(0, 1)
            assert run.wait_for(
                lambda run=run, before=before: run.text().count(
                    'Saving checkpoint') > before), run.text()[-3000:]
            if i % 2:
                assert run.wait_for(
                    partial(parts, killed, since)), run.text()[-3000:]
                time.sleep(rng.uniform(0, 0.05))
            else:
                time.sleep(rng.uniform(0, epoch))
        assert run.process.poll() is None, run.text()[-3000:]
        run.kill()
        while_saving += bool(parts(killed, since))
        resumed += 'resumed epoch' in run.text()
    last = start('train.py', CONFIG, '--work-dir', 'killed', '--resume',
                 *options(EPOCHS))
    assert last.finish() == 0, last.text()[-3000:]
    print(f'\n{KILLS} kills, {while_saving} of them with a checkpoint half '
          f'written; {resumed} of the killed runs had been resumed')
    assert while_saving >= KILLS // 4 and resumed >= KILLS // 2
    expected, actual = (
        torch.load(tmp_path / folder / f'epoch_{EPOCHS}.pth',
                   weights_only=False)  # noqa: S614 (written above)
        for folder in ('whole', 'killed'))
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(expected[key], actual[key], key)
    assert not parts(killed)


PLAIN = f"""
_base_ = {CONFIG!r}
custom_imports = dict(imports=['mmdet_scconv', 'loss_log'])
custom_hooks = [dict(type='LossLog')]
everything = dict(sampler=dict(num=100000, pos_fraction=1.))
model = dict(
    # BatchNorm sees the images of its own process alone
    backbone=dict(norm_cfg=dict(type='GN', num_groups=8)),
    # and so does the random choice of boxes
    train_cfg=dict(rpn=everything, rcnn=everything))
# Adam would hide gradients that are too large by a factor
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = None
"""


def test_two_processes_train_as_one(start, tmp_path):
    """With the same global batch, 4 images; a doubled learning rate, as
    summed instead of averaged gradients would be, does not."""
    (tmp_path / 'plain.py').write_text(PLAIN)

    def losses(work_dir, *args, batch_size=4, lr=0.01, **variables):
        run = start(
            *args, '--work-dir', work_dir, *options(
                10, **{
                    'train_dataloader.batch_size': batch_size,
                    'optim_wrapper.optimizer.lr': lr
                }), PYTHONPATH=os.pathsep.join(
                    [str(REPO), str(REPO / 'tests')]), **variables)
        assert run.finish() == 0, run.text()[-3000:]
        return torch.tensor(
            json.loads((tmp_path / work_dir / 'losses.json').read_text()))

    one = losses('one', 'train.py', 'plain.py')
    two = losses('two', 'dist_train.sh', 'plain.py', 2, batch_size=2,
                 PORT=free_port())
    doubled = losses('doubled', 'train.py', 'plain.py', lr=0.02)
    off, control = (((other - one).abs() / one) for other in (two, doubled))
    print(f'\nloss of one process {one[0]:.4f} ... {one[-1]:.4f}, of two '
          f'{two[0]:.4f} ... {two[-1]:.4f}; largest relative difference of '
          f'{len(one)} iterations {off.max():.2g}, mean {off.mean():.2g}; '
          f'doubled learning rate: {control.max():.2g}, '
          f'{control.mean():.2g}')
    assert one[-1] < 0.8 * one[0]
    assert off.max() < 0.05
    assert control.max() > 0.1


def test_a_lost_worker_ends_the_run(start):
    run = start('dist_train.sh', CONFIG, 2, '--work-dir', 'run',
                *options(100), PORT=free_port())
    assert run.wait_for(lambda: 'Epoch(train)' in run.text())
    workers = [
        int(path.parent.name) for path in Path('/proc').glob('[0-9]*/environ')
        if parent_of(path.parent) == run.process.pid
        and b'\0LOCAL_RANK=1\0' in path.read_bytes()
    ]
    begin = time.monotonic()
    os.kill(*workers, signal.SIGKILL)
    assert run.finish(60) != 0
    print(f'\nended {time.monotonic() - begin:.1f} s after the kill')
    assert 'Signal 9 (SIGKILL) received by PID' in run.text()


def test_two_processes_end_well_30_times(start):
    """A process that left its group open was aborted in one run of many."""
    trained = start('dist_train.sh', CONFIG, 2, '--work-dir', 'run',
                    *options(1), PORT=free_port())
    assert trained.finish() == 0, trained.text()[-3000:]
    begin = time.monotonic()
    for i in range(30):
        run = start('dist_test.sh', CONFIG, 'run/epoch_1.pth', 2,
                    '--work-dir', 'tested', *options(1), PORT=free_port())
        assert run.finish() == 0, f'run {i}: {run.text()[-3000:]}'
        assert 'coco/bbox_mAP_50' in run.text()
    print(f'\n30 runs in {time.monotonic() - begin:.0f} s')


def parent_of(process):
    """The process whose folder in /proc this is may have ended."""
    try:
        return int((process / 'stat').read_text().rsplit(')')[-1].split()[1])
    except OSError:
        return None
