"""The checkpoint that a training goes on from."""
import os
import shutil

import pytest
import torch

from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.pretrained.resume import (
    check_resumable,
    find_resumable,
    last_checkpoint,
)


def save(path, **changes):
    torch.save(
        dict(
            meta=dict(epoch=1),
            state_dict=dict(weight=torch.ones(1000)),
            message_hub={},
            optimizer={},
            **changes), path)


@pytest.fixture
def work_dir(tmp_path):
    """Three checkpoints, the last of them named by ``last_checkpoint``."""
    for epoch in (1, 2, 3):
        save(tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (epoch, epoch))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def flip(path):
    """One bit of the weights."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(9).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('damage', [cut, flip, empty])
def test_falls_back_with_a_warning(work_dir, damage):
    damage(work_dir / 'epoch_3.pth')
    with pytest.warns(UserWarning, match='epoch_3.pth is damaged'):
        found = find_resumable(str(work_dir))
    assert found == str(work_dir / 'epoch_2.pth')
    with pytest.raises(CheckpointError, match='take an earlier checkpoint'):
        check_resumable(str(work_dir / 'epoch_3.pth'))


@pytest.mark.parametrize('content', [b'\0\0\0\0', b'\xff\xfe'])
def test_a_damaged_last_checkpoint(work_dir, content):
    """As a power cut leaves it: the newest file is taken."""
    (work_dir / 'last_checkpoint').write_bytes(content)
    assert find_resumable(str(work_dir)) == str(work_dir / 'epoch_3.pth')


def test_the_last_checkpoint_of_a_copied_work_dir(work_dir, tmp_path_factory):
    copied = tmp_path_factory.mktemp('copied') / 'work_dir'
    shutil.copytree(work_dir, copied)
    assert last_checkpoint(str(copied)) == str(copied / 'epoch_3.pth')


def test_last_checkpoint_comes_first(work_dir):
    """Others may be left from an earlier run in the same folder."""
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    assert find_resumable(str(work_dir)) == str(work_dir / 'epoch_1.pth')


@pytest.mark.parametrize('last', ['', '/moved/from/epoch_3.pth', '/gone.pth'])
def test_a_last_checkpoint_of_no_use(work_dir, last):
    (work_dir / 'last_checkpoint').write_text(last)
    assert find_resumable(str(work_dir)) == str(work_dir / 'epoch_3.pth')


def test_nothing_to_resume_from(tmp_path):
    save(tmp_path / 'best_acc_epoch_3.pth')
    (tmp_path / 'epoch_1.pth.part').write_bytes(b'half')
    assert find_resumable(str(tmp_path)) is None


def test_all_damaged(work_dir):
    for epoch in (1, 2, 3):
        cut(work_dir / f'epoch_{epoch}.pth')
    with pytest.warns(UserWarning), \
            pytest.raises(CheckpointError, match='(?s)No checkpoint.*epoch_1'):
        find_resumable(str(work_dir))


def test_weights_alone(tmp_path):
    torch.save(dict(meta={}, state_dict={}), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError,
                       match='has no message_hub and no optimizer'):
        check_resumable(str(tmp_path / 'a.pth'))
