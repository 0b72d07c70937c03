"""One line in a config brings the hooks that protect a training, under our
train.py and under MMDetection's."""
import json
from pathlib import Path

import mmdet
import pytest
import torch
from conftest import REPO, call_tool
from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, Hook
from toy import toy_runner

from mmdet_scconv.hooks import CheckLossHook, SafeCheckpointHook

ADDED = {'ChannelsLastHook', 'CheckLossHook', 'CheckPretrainedHook',
         'CheckStartHook', 'EpochLengthHook', 'EpochSeedHook',
         'KeepMemoryHook', 'SafeCheckpointHook'}
LINE = dict(type='mmdet.SCConvRuntimeHook')


def trained(work_dir, hooks=(), **options):
    """A runner after its training, and the names of its hooks."""
    runner = toy_runner(work_dir, hooks=[*hooks, LINE], **options)
    runner.train()
    return runner, [type(hook).__name__ for hook in runner.hooks]


def find(runner, hook_type):
    found, = (hook for hook in runner.hooks if isinstance(hook, hook_type))
    return found


def test_it_brings_the_others(tmp_path):
    """Each once, also when the runner runs a second time."""
    runner, names = trained(tmp_path)
    assert set(names) >= ADDED and len(set(names)) == len(names)
    assert 'CheckpointHook' not in names
    count = len(names)
    runner.call_hook('before_run')
    assert len(runner.hooks) == count


def test_they_take_part_from_the_start(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(CheckLossHook, 'before_run',
                        lambda self, runner: called.append('run'),
                        raising=False)
    monkeypatch.setattr(CheckLossHook, 'before_train',
                        lambda self, runner: called.append('train'),
                        raising=False)
    trained(tmp_path)
    assert called == ['run', 'train']


def test_settings_of_the_checkpoint_hook_are_kept(tmp_path):
    runner, _ = trained(tmp_path, checkpoint=dict(
        type='CheckpointHook', interval=2, max_keep_ckpts=1,
        save_best='toy/acc', priority='LOWEST'))
    hook = find(runner, SafeCheckpointHook)
    assert hook.priority == 'LOWEST' and runner.hooks[-1] is hook
    assert {path.name for path in tmp_path.glob('*.pth')} == {
        'epoch_3.pth', 'best_toy_acc_epoch_3.pth'}


class Own(CheckpointHook):
    """A user's own."""


def test_hooks_of_the_config_stay(tmp_path):
    loss, saving = CheckLossHook(), Own(interval=1)
    runner, _ = trained(tmp_path, hooks=[loss], checkpoint=saving)
    assert find(runner, CheckLossHook) is loss
    assert find(runner, CheckpointHook) is saving


def test_without_checkpoints(tmp_path):
    _, names = trained(tmp_path, checkpoint=None)
    assert ADDED - set(names) == {'SafeCheckpointHook'}


@pytest.mark.parametrize('deterministic', [True, False])
def test_workers_of_a_deterministic_run_do_not_persist(deterministic,
                                                       tmp_path):
    runner, _ = trained(
        tmp_path, workers=1, loader=dict(persistent_workers=True),
        randomness=dict(seed=0, deterministic=deterministic))
    assert runner.train_dataloader.persistent_workers is not deterministic


# A stock config with the swap, the line and data of our own, at a tiny size
STOCK = """
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmdet_scconv'], allow_failed_imports=False)
model = dict(backbone=dict(
    type='SCConvResNet', depth=18, base_channels=16, frozen_stages=-1,
    norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128]),
    roi_head=dict(bbox_head=dict(fc_out_channels=32)))
custom_hooks = [dict(type='SCConvRuntimeHook')]

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (96, 64)
train_dataloader = dict(
    num_workers=1, persistent_workers=True,
    dataset=dict(pipeline=train_pipeline))
val_cfg = val_dataloader = val_evaluator = None
train_cfg = dict(max_epochs=2)
randomness = dict(seed=3, deterministic=True)
"""
OURS = f"""
_base_ = '{REPO}/configs/custom/faster-rcnn_scconv-r18_fpn_12e_coco-format.py'
train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = (96, 64)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, batch_size=2,
    dataset=dict(pipeline=train_pipeline))
val_cfg = val_dataloader = val_evaluator = None
train_cfg = dict(max_epochs=2)
randomness = dict(seed=3, deterministic=True)
"""
# notes what takes part in the training
NOTE = """
custom_hooks = [*{hooks}, dict(type='NoteHooks')]
"""


@HOOKS.register_module()
class NoteHooks(Hook):

    def before_train(self, runner):
        names = [(type(hook).__name__, hook.priority)
                 for hook in runner.hooks]
        Path(runner.work_dir, 'hooks.json').write_text(json.dumps(names))


TOOLS = dict(ours=REPO / 'tools/train.py',
             mmdet=Path(mmdet.__file__).parent / '.mim/tools/train.py')


def train_with(tool, folder, *args):
    """Hooks, and the checkpoint, of a training by a tool's command."""
    code, output = call_tool(TOOLS[tool], 'my_config.py', '--work-dir', tool,
                             *args)
    assert code == 0, output[-4000:]
    return (json.loads((folder / tool / 'hooks.json').read_text()),
            torch.load(folder / tool / 'epoch_2.pth', weights_only=False))


@pytest.mark.parametrize('config', [
    pytest.param('stock', marks=pytest.mark.slow), 'ours'])
def test_both_tools_train_the_same(config, tmp_path, data_home, monkeypatch):
    """A kill after the first epoch, and --resume, included."""
    (tmp_path / 'data').symlink_to(data_home / 'data')
    monkeypatch.chdir(tmp_path)
    text, hooks = (
        (STOCK, 'custom_hooks') if config == 'stock' else
        (OURS, '_base_.custom_hooks'))
    Path('my_config.py').write_text(text + NOTE.format(hooks=hooks))
    ours, mmdets = (train_with(tool, tmp_path) for tool in TOOLS)
    assert ours[0] == mmdets[0]
    assert {name for name, _ in ours[0]} >= ADDED
    for tool in TOOLS:
        (tmp_path / tool / 'epoch_2.pth').write_bytes(b'half written')
    resumed = [train_with(tool, tmp_path, '--resume') for tool in TOOLS]
    for _, checkpoint in (mmdets, *resumed):
        for part in ('state_dict', 'optimizer'):
            assert_equal(checkpoint[part], ours[1][part])


def assert_equal(a, b):
    """Bit by bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, list):
        for pair in zip(a, b, strict=True):
            assert_equal(*pair)
    else:
        assert a == b
