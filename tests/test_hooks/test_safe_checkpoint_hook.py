"""Checkpoints are whole or not there; the last good one always is."""
import errno
import os
from pathlib import Path

import pytest
import torch
from mmengine._strategy import SingleDeviceStrategy
from mmengine.hooks import Hook
from mmengine.registry import STRATEGIES
from mmengine.runner import FlexibleRunner
from toy import RandomInputs, Toy, toy_runner

from mmdet_scconv.atomic import write_atomically
from mmdet_scconv.pretrained.resume import check_resumable, find_resumable


class Fill(Hook):
    """From an epoch on, writing a file finds the disk full."""

    def __init__(self, name, epoch):
        self.name, self.epoch = name, epoch

    def before_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            part = Path(runner.work_dir) / f'{self.name}.part'
            part.symlink_to('/dev/full')


def train(work_dir, **options):
    checkpoint = dict(
        type='mmdet.SafeCheckpointHook', interval=1, max_keep_ckpts=1)
    hooks = options.pop('hooks', ())
    toy_runner(
        work_dir, hooks=hooks, checkpoint=dict(checkpoint, **options)).train()


def files(work_dir):
    """All but the dumped config."""
    return {
        path.name
        for path in work_dir.iterdir()
        if path.is_file() and path.suffix != '.py'
    }


@pytest.mark.parametrize('refused', ['open', 'fsync'])
def test_a_folder_that_cannot_be_synchronised(refused, tmp_path, monkeypatch):
    """As on some network shares: the file itself is on the disk."""
    function = getattr(os, refused)

    def refuse(target, *args, **kwargs):
        folder = target if refused == 'open' else f'/proc/self/fd/{target}'
        if os.path.isdir(folder):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return function(target, *args, **kwargs)

    monkeypatch.setattr(os, refused, refuse)
    write_atomically(str(tmp_path / 'a.pth'), b'new')
    assert (tmp_path / 'a.pth').read_bytes() == b'new'


def test_keeps_what_checkpoint_hook_keeps(tmp_path):
    train(tmp_path, save_best='toy/acc')
    assert files(tmp_path) == {
        'epoch_3.pth', 'best_toy_acc_epoch_3.pth', 'last_checkpoint'
    }
    assert (tmp_path / 'last_checkpoint').read_text() == str(
        tmp_path / 'epoch_3.pth')
    check_resumable(str(tmp_path / 'epoch_3.pth'))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    with pytest.raises(OSError) as raised:
        train(tmp_path, hooks=[Fill('epoch_2.pth', 2)])
    assert raised.value.errno == errno.ENOSPC
    for part in (f'{tmp_path / "epoch_1.pth"}, is kept', '--resume',
                 'max_keep_ckpts'):
        assert part in str(raised.value)
    assert files(tmp_path) == {'epoch_1.pth', 'last_checkpoint'}
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


def test_a_full_disk_at_the_first_checkpoint(tmp_path):
    with pytest.raises(OSError, match='There is no earlier checkpoint'):
        train(tmp_path, hooks=[Fill('epoch_1.pth', 1)])
    assert find_resumable(str(tmp_path)) is None


def test_a_full_disk_leaves_the_best_checkpoint(tmp_path):
    with pytest.raises(OSError):
        train(
            tmp_path,
            hooks=[Fill('best_toy_acc_epoch_2.pth', 2)],
            save_best='toy/acc')
    assert 'best_toy_acc_epoch_1.pth' in files(tmp_path)


def test_a_full_disk_leaves_last_checkpoint(tmp_path):
    with pytest.raises(OSError):
        train(tmp_path, hooks=[Fill('last_checkpoint', 2)])
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


def test_removes_what_a_kill_left(tmp_path):
    (tmp_path / 'epoch_7.pth.part').write_bytes(b'half')
    train(tmp_path)
    assert files(tmp_path) == {'epoch_3.pth', 'last_checkpoint'}


def test_other_storage_is_left_to_mmengine(tmp_path):
    train(tmp_path, backend_args=dict(backend='local'))
    assert files(tmp_path) == {'epoch_3.pth', 'last_checkpoint'}


@STRATEGIES.register_module()
class FolderStrategy(SingleDeviceStrategy):
    """Writes a checkpoint as a folder, as DeepSpeed's does."""

    def save_checkpoint(self, filename, *, extra_ckpt=None, **kwargs):
        Path(filename).mkdir()
        torch.save(dict(extra_ckpt, state_dict=self.model_state_dict()),
                   Path(filename) / 'mp_rank_00_model_states.pt')


def test_checkpoints_that_are_folders(tmp_path):
    FlexibleRunner(
        Toy(),
        work_dir=str(tmp_path),
        strategy=dict(type='FolderStrategy'),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=RandomInputs(),
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=1, max_keep_ckpts=1)),
        custom_hooks=[dict(type='mmdet.SCConvRuntimeHook')],
        log_level='ERROR',
        experiment_name='folders').train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_3.pth']
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_3.pth')
