"""Runs of a table, with scripts in place of train.py and test.py."""
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmdet_scconv.paper.runs import Run, command, execute
from mmdet_scconv.paper.work_dirs import (
    RunError,
    find_results,
    last_checkpoint,
    read_result,
    trained,
    training_length,
)
from mmdet_scconv.paper.work_dirs import (
    test_metrics as metrics_of,
)

# a process that need not import anything
FORK = multiprocessing.get_context('fork')
CONFIG = '''
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
model = dict(backbone=dict(type='SCConvResNet', depth=18))
'''
# As MMEngine leaves them: a copy of the config, a log, scalars, checkpoints.
# As long as of VOC 07+12 on one GPU: 16551 x 3 images, 2 at a time, and
# 4952 in a validation.
LENGTH, INTERVAL, TESTED = 24827, 50, 4952
TRAIN = f'LENGTH, INTERVAL, TESTED = {LENGTH}, {INTERVAL}, {TESTED}' + '''
import json, pathlib, shutil, sys, time
config, work_dir = sys.argv[1], pathlib.Path(sys.argv[3])
print('arguments', sys.argv[4:])
if (work_dir / 'fail').exists():
    print('what is wrong')
    sys.exit(3)
shutil.copy(config, work_dir)
folder = work_dir / str(time.time_ns())
(folder / 'vis_data').mkdir(parents=True)
last = work_dir / 'last_checkpoint'
done = int(last.read_text()[-5]) if last.exists() else 0
log = open(folder / 'a.log', 'a', buffering=1)
scalars = open(folder / 'vis_data' / 'scalars.json', 'a', buffering=1)
log.write('    PyTorch: 9.9.9\\n    CUDA available: False\\n')
time_of_day = '2026/01/01 00:00:00 - mmengine - INFO - '

def hang():
    (work_dir / 'hangs').touch()
    time.sleep(300)

def say(line):
    log.write(time_of_day + line + '\\n')
    print(time_of_day + line, flush=True)

def tell(**entry):
    scalars.write(json.dumps(entry) + '\\n')

if not (work_dir / 'stock').exists():  # MMDetection's own train.py
    tell(iters_per_epoch=LENGTH, step=done * LENGTH)
for epoch in range(done + 1, 4):
    for i in range(INTERVAL, LENGTH + 1, INTERVAL):
        step = (epoch - 1) * LENGTH + i
        say(f'Epoch(train)  [{epoch}][{i:5}/{LENGTH}]  lr: 1.0000e-02  '
            'eta: 10:10:10  time: 0.1000  data_time: 0.0100  memory: 3000  '
            'loss: 1.0000  loss_rpn_cls: 0.1000  loss_rpn_bbox: 0.1000')
        tell(lr=0.01, data_time=0.01, loss=1., loss_rpn_cls=0.1,
             time=epoch / 10, epoch=epoch, iter=step, step=step)
        if i > LENGTH / 2 and (work_dir / f'hang{epoch}').exists():
            hang()
    say(f'Saving checkpoint at {epoch} epochs')
    (work_dir / f'epoch_{epoch}.pth').touch()
    last.write_text(f'/elsewhere/epoch_{epoch}.pth')
    for i in range(INTERVAL, TESTED, INTERVAL):
        say(f'Epoch(val)  [{epoch}][{i:4}/{TESTED}]    eta: 0:00:00  '
            'time: 0.0500  data_time: 0.0010  memory: 500')
    if (work_dir / f'hang{epoch}.val').exists():
        hang()
    tell(**{'coco/bbox_mAP': epoch / 10}, data_time=0.001, time=0.05,
         step=epoch)
'''
TEST = '''
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1]) / 'stamp'
folder.mkdir(parents=True)
assert pathlib.Path(sys.argv[2]).name == 'epoch_3.pth'
(folder / 'stamp.json').write_text(json.dumps({'coco/bbox_mAP': 0.5}))
'''


@pytest.fixture
def run(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(TRAIN)
    (tmp_path / 'tools' / 'test.py').write_text(TEST)
    (tmp_path / 'row.py').write_text(CONFIG)
    return Run('Row', str(tmp_path / 'row.py'), 7,
               str(tmp_path / 'root/row/seed7'), ('a=1', ))


def tools_of(run):
    return str(Path(run.config).parent / 'tools')


def start(run):
    execute(run, tools_of(run), 0, lambda: None)


def test_run_trains_and_tests(run):
    assert run.state() == 'new'
    start(run)
    assert run.state() == 'finished'
    log = Path(run.path('train.log')).read_text()
    assert ("'--resume', '--auto-scale-lr', '--cfg-options', 'a=1', "
            "'randomness.seed=7'") in log
    result = read_result('Row', run.config, run.work_dir)
    assert result.state == 'finished'
    assert result.metrics == {'coco/bbox_mAP': 0.5}
    assert result.seconds == pytest.approx(0.2)
    assert result.seconds_per_epoch == pytest.approx(0.2 * LENGTH)
    assert result.environment == 'CPU, torch 9.9.9'
    assert result.model.backbone.depth == 18


def test_failed_run_says_where_to_look_and_is_resumed(run):
    os.makedirs(run.work_dir)
    Path(run.path('fail')).touch()
    with pytest.raises(RunError, match='code 3, see .*train.log: what is'):
        start(run)
    assert run.state() == 'started'
    os.remove(run.path('fail'))
    start(run)
    assert run.state() == 'finished'


def test_another_run_in_the_same_place_is_refused(run):
    start(run)
    for other in (Run(run.name, run.config, 8, run.work_dir, run.options),
                  Run(run.name, run.config, 7, run.work_dir)):
        with pytest.raises(RunError, match='another (seed|options): name'):
            other.state()
    Path(run.config).write_text(CONFIG.replace('18', '50'))
    with pytest.raises(RunError, match='another config_sha256'):
        run.state()


def test_a_run_that_is_under_way_is_not_started_again(run):
    os.makedirs(run.work_dir)
    with open(run.path('lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match='another process is working'):
            start(run)
    start(run)


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError('did not happen within 60 s')


def start_in_a_session(run):
    os.setsid()
    # what a shell starts in the background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start(run)


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGKILL])
def test_killed_run_is_resumed(run, signal_number):
    """A training never goes on unseen beside a second one: it ends with its
    parent, or holds the lock."""
    os.makedirs(run.work_dir)
    Path(run.path('hang1.val')).touch()
    parent = FORK.Process(target=start_in_a_session, args=(run, ))
    parent.start()
    wait_for(lambda: trained(run.work_dir, 'epoch') == 1)
    os.kill(parent.pid, signal_number)
    parent.join()
    os.remove(run.path('hang1.val'))
    if signal_number == signal.SIGKILL:
        with pytest.raises(RunError, match='another process is working'):
            start(run)
        # any pkill will do
        subprocess.run(['pkill', '-9', '-f', run.work_dir])  # noqa: S607
        time.sleep(0.2)
    assert run.state() == 'started'
    start(run)
    assert run.state() == 'finished'
    # epoch 1 before, epochs 2 and 3 after
    text = Path(run.path('train.log')).read_text()
    assert text.count('Saving checkpoint') == 3


def test_truncated_metrics_are_ignored(run):
    start(run)
    Path(run.path('test/stamp/stamp.json')).write_text('{"coco/bbox')
    assert metrics_of(run.work_dir) == {}
    assert run.state() == 'started'


def test_a_test_that_found_nothing_is_not_a_result(run):
    """MMEngine logs its times all the same."""
    test = Path(tools_of(run)) / 'test.py'
    test.write_text(TEST.replace("'coco/bbox_mAP': 0.5",
                                 "'data_time': 0.05, 'time': 0.2"))
    with pytest.raises(RunError, match='test gave no metrics'):
        start(run)
    assert run.state() == 'started'
    assert metrics_of(run.work_dir) == {}


def test_results_from_elsewhere(run, tmp_path):
    """Moved, in another arrangement, with the last validation alone."""
    start(run)
    os.rename(run.work_dir, tmp_path / 'copied')
    work_dir = str(tmp_path / 'copied')
    assert last_checkpoint(work_dir) == f'{work_dir}/epoch_3.pth'
    (tmp_path / 'copied/test/stamp/stamp.json').unlink()
    result, = find_results('Row', run.config, str(tmp_path))
    assert result.metrics['coco/bbox_mAP'] == 0.3


def results_of(run):
    """Without a test."""
    shutil.rmtree(run.path('test'), ignore_errors=True)
    result, = find_results('Row', run.config, run.work_dir)
    return result


@pytest.mark.parametrize('stock', [True, False])
@pytest.mark.parametrize('hang,done', [
    ('hang1', 0.5), ('hang1.val', 1), ('hang2', 1.5), ('hang3.val', 3)])
def test_how_far_a_run_is(run, stock, hang, done):
    """Also where a validation fills the end of the log. Only EpochLengthHook
    knows a part of the first epoch. A validation of an earlier epoch is not
    a result."""
    os.makedirs(run.work_dir)
    Path(run.path(hang)).touch()
    if stock:
        Path(run.path('stock')).touch()
    training = subprocess.Popen(
        [sys.executable, f'{tools_of(run)}/train.py', run.config,
         '--work-dir', run.work_dir], stdout=subprocess.DEVNULL)
    try:
        wait_for(Path(run.path('hangs')).exists)
    finally:
        training.kill()
        training.wait()
    Path(run.path('last_checkpoint')).touch()
    result = results_of(run)
    known = 0 if stock and done < 1 else done
    assert result.state == f'{known:g} of 3 epochs'
    assert result.metrics == {}
    assert (result.seconds_per_epoch is None) == (stock and done <= 1)


def test_the_last_validation_counts_as_a_result(run):
    start(run)
    assert results_of(run).metrics['coco/bbox_mAP'] == 0.3


@pytest.mark.parametrize('entries,unit,expected', [
    ([], 'epoch', 0),
    ([dict(loss=1., epoch=1, iter=50)], 'epoch', 0),
    ([dict(loss=1., iter=50)], 'epoch', 0),
    ([dict(loss=1., iter=89950)], 'iteration', 89950),
    ([dict(iters_per_epoch=200, step=0), dict(loss=1., iter=50)], 'epoch',
     0.25),
])
def test_trained(tmp_path, entries, unit, expected):
    folder = tmp_path / 'stamp' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(
        '\n'.join([*map(json.dumps, entries), '{"cut']))
    assert trained(str(tmp_path), unit) == expected
    (tmp_path / 'last_checkpoint').write_text('/a/iter_90000.pth')
    assert trained(str(tmp_path), unit) == (
        90000 if unit == 'iteration' else expected)


def test_training_length(run, tmp_path):
    cfg = Config.fromfile(run.config)
    assert training_length(cfg) == (3, 'epoch')
    assert training_length(cfg, ('train_cfg.max_epochs=5', )) == (5, 'epoch')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000)
    assert training_length(cfg) == (90000, 'iteration')
    cfg.train_cfg = dict()
    with pytest.raises(RunError, match='row.py: .* no max_epochs'):
        training_length(cfg)


def test_command_for_several_gpus():
    assert command('train.py', 1, 'c.py') == [
        sys.executable, 'train.py', 'c.py'
    ]
    several = command('train.py', 4, 'c.py')
    assert several[-5:] == ['4', 'train.py', 'c.py', '--launcher', 'pytorch']
