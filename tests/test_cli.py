import argparse
import errno
import os
import os.path as osp
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import REPO, load_script
from mmengine.config import Config

from mmdet_scconv.cli import (
    build_runner,
    check_checkpoint,
    check_data,
    errors_in_one_line,
    hint_at_hooks,
    leaving_process_group,
    load_config,
    picture_names,
    set_resume,
    start,
    tta_settings,
    use_amp,
)
from mmdet_scconv.cli.processes import without_sync_bn
from mmdet_scconv.config import read_config_file
from mmdet_scconv.errors import CheckpointError, UserError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'instances'))
]


def test_tta_shows_the_unflipped_view_first():
    """The evaluation is given the annotated boxes of the first view."""
    *transforms, tta = tta_settings(PIPELINE)['tta_pipeline']
    assert transforms == PIPELINE[:1]
    flips, (pack, ) = tta['transforms']
    assert [flip['prob'] for flip in flips] == [0, 1]
    assert pack['meta_keys'] == ('img_id', 'instances', 'flip',
                                 'flip_direction')
    assert PIPELINE[1]['meta_keys'] == ('img_id', 'instances')


def test_tta_needs_a_pipeline_that_packs():
    with pytest.raises(UserError, match="ends in 'LoadImageFromFile'"):
        tta_settings(PIPELINE[:1])


def test_resume_without_a_checkpoint_starts_as_the_config_says(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert not cfg.resume and cfg.load_from == 'pretrained.pth'


def test_resume_from_the_work_dir(tmp_path):
    """CheckStartHook finds the last good one."""
    (tmp_path / 'epoch_1.pth').touch()
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from is None


def test_resume_from_a_file():
    cfg = Config(dict(load_from='pretrained.pth'))
    set_resume(cfg, 'epoch_1.pth')
    assert cfg.resume and cfg.load_from == 'epoch_1.pth'


@pytest.mark.parametrize('hooks,told', [
    (None, True),
    ([dict(type='EMAHook')], True),
    ([dict(type='EMAHook'), dict(type='mmdet.SCConvRuntimeHook')], False),
])
def test_missing_hooks_are_named(hooks, told, capsys):
    hint_at_hooks(Config(dict(custom_hooks=hooks) if hooks else {}))
    assert ('SCConvRuntimeHook' in capsys.readouterr().out) is told


def test_each_image_has_a_picture():
    assert picture_names(['a/x.jpg', 'y.jpg', 'b/x.jpg', 'b/c/X.jpg']) == [
        osp.join('a', 'x.jpg'), 'y.jpg', osp.join('b', 'x.jpg'),
        osp.join('b', 'c', 'X.jpg')
    ]
    assert picture_names(['a/x.jpg', 'a/y.jpg']) == ['x.jpg', 'y.jpg']
    assert picture_names(['a/x.jpg', './a/x.jpg']) == ['x.jpg', 'x.jpg']


def test_a_damaged_checkpoint_ends_a_tool(tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'half')
    with pytest.raises(CheckpointError, match='a.pth is damaged'):
        check_checkpoint(str(tmp_path / 'a.pth'))


def join_group(folder):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/join', rank=0, world_size=1)


def test_process_group_is_left(tmp_path):
    with leaving_process_group():
        join_group(tmp_path)
    assert not dist.is_initialized()


def threads_of_gloo():
    names = (task.joinpath('comm').read_text()
             for task in Path('/proc/self/task').iterdir())
    return [name for name in names if 'gloo' in name]


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_threads_end_with_the_group(tmp_path):
    """Also where garbage, as a runner is at the end, still holds the model
    that holds the group: a process whose threads run is sometimes aborted
    when it ends."""
    with leaving_process_group():
        join_group(tmp_path)
        garbage = [torch.nn.parallel.DistributedDataParallel(
            torch.nn.Linear(1, 1))]
        garbage.append(garbage)
        del garbage
    assert not threads_of_gloo()


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_tools_leave_the_group_after_an_error(tool, tmp_path, monkeypatch,
                                              data_home):
    monkeypatch.chdir(data_home)

    def build_runner(cfg):
        join_group(tmp_path)
        raise RuntimeError('no room')

    module = load_script(REPO / 'tools' / tool)
    monkeypatch.setattr(module, 'build_runner', build_runner)
    torch.save({}, tmp_path / 'a.pth')
    config = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
    positional = [config, tmp_path / 'a.pth'][:2 - (tool == 'train.py')]
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, positional)])
    with pytest.raises(RuntimeError, match='no room'):
        module.main()
    assert not dist.is_initialized()


@pytest.mark.parametrize('failed', [True, False])
def test_nccl_is_not_waited_for_after_an_error(failed, monkeypatch):
    """Its end is a collective, and the other processes are in another."""
    left = []
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_backend', lambda: 'nccl')
    monkeypatch.setattr(dist, 'destroy_process_group',
                        lambda: left.append(True))
    try:
        with leaving_process_group():
            if failed:
                raise RuntimeError
    except RuntimeError:
        pass
    assert bool(left) is not failed


def test_without_a_process_group_nothing_is_left():
    with leaving_process_group():
        pass


def arguments(config, **options):
    return argparse.Namespace(**dict(
        dict(config=str(config), launcher='none', local_rank=0, work_dir=None,
             cfg_options=None, host_timeout=0.), **options))


def test_a_config_that_is_not_there():
    with pytest.raises(UserError, match='no such config: nothing.py'):
        load_config(arguments('nothing.py'))


@pytest.mark.parametrize('text,message', [
    ("_base_ = './nothing.py'", 'FileNotFoundError: .*nothing.py'),
    ('model = dict(', 'SyntaxError'),
    ('a = 1 / 0', 'ZeroDivisionError'),
])
def test_a_config_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(UserError, match=f'a.py cannot be read: {message}'):
        read_config_file(str(tmp_path / 'a.py'))


def test_the_disk_is_full(tmp_path, monkeypatch):
    def mkdtemp(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, 'mkdtemp', mkdtemp)
    (tmp_path / 'a.py').write_text('')
    with pytest.raises(UserError, match='a.py cannot .*No space left on'):
        read_config_file(str(tmp_path / 'a.py'))


def test_torchrun_is_needed_for_its_launcher(tmp_path, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    (tmp_path / 'a.py').write_text('')
    with pytest.raises(UserError, match='use tools/dist_train.sh'):
        load_config(arguments(tmp_path / 'a.py', launcher='pytorch'))


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_gpus(monkeypatch, launcher):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match=f'--launcher {launcher} needs a GPU'):
        build_runner(Config(dict(launcher=launcher)))


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_amp(monkeypatch, device):
    monkeypatch.setattr(start, 'get_device', lambda: device)
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    if device == 'cpu':
        with pytest.raises(UserError, match='--amp.* needs a GPU'):
            use_amp(cfg)
    else:
        use_amp(cfg)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_no_workers_need_no_other_setting(tmp_path):
    (tmp_path / 'a.py').write_text(
        'train_dataloader = dict(num_workers=2, persistent_workers=True)\n'
        'val_dataloader = dict(num_workers=2, persistent_workers=True)\n'
        'test_dataloader = None\n')
    cfg = load_config(arguments(
        tmp_path / 'a.py', cfg_options={'train_dataloader.num_workers': 0}))
    assert cfg.train_dataloader == dict(num_workers=0)
    assert cfg.val_dataloader.persistent_workers


def test_missing_data_is_named_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(val_dataloader=dict(dataset=dict(
        type='CocoDataset', data_root='data/coco/', ann_file='val.json'))))
    with pytest.raises(UserError, match=(
            r'the data is not here: data/coco \(looked for in .*\)\. Get it '
            'with: python tools/misc/prepare_data.py coco')):
        check_data(cfg, 'train', 'val')


def test_sync_bn_becomes_bn():
    model = Config(dict(model=dict(
        backbone=dict(norm_cfg=dict(type='SyncBN', requires_grad=True)),
        necks=[dict(norm_cfg=dict(type='MMSyncBN'))]))).model
    assert without_sync_bn(model)
    assert model.backbone.norm_cfg == dict(type='BN', requires_grad=True)
    assert model.necks[0].norm_cfg.type == 'BN'
    assert not without_sync_bn(model)


@pytest.mark.parametrize('error', [
    UserError('what is wrong'), CheckpointError('what is wrong'),
    KeyError('what is wrong')])
def test_errors_in_one_line(error, monkeypatch):
    """Those that a user can correct, and those that the tool names."""
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    with pytest.raises(SystemExit, match='^train: .?what is wrong'), \
            errors_in_one_line(KeyError):
        raise error


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError), errors_in_one_line():
        raise ValueError
