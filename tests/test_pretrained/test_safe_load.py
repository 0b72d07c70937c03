"""Loading a checkpoint runs nothing that is in it."""
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmdet_scconv.pretrained.safe_load import (
    FORCE,
    CheckpointError,
    load_as_data,
    refuse_code,
)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


class Reach:
    """Reaches into a module by getattr, which MMEngine's loader allows."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_what_mmengine_saves_is_data(tmp_path):
    history = HistoryBuffer()
    history.update(3.)
    saved = dict(
        state_dict=dict(weight=torch.ones(2)),
        message_hub=dict(log_scalars=dict(loss=history)),
        meta=dict(box=np.arange(4.), score=np.float64(0.5)))
    torch.save(saved, tmp_path / 'a.pth')
    loaded = load_as_data(str(tmp_path / 'a.pth'))
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 3.
    assert loaded['meta']['box'].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('zip_format', [True, False])
def test_code_is_refused(tmp_path, zip_format):
    path = tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict={}, meta=Touch(tmp_path / 'ran')), path,
        _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match='evil.pth is not.*mkdir'):
        load_as_data(str(path))
    assert not (tmp_path / 'ran').exists()


def test_getattr_is_refused(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=Reach()), path)
    with pytest.raises(CheckpointError, match='__init__'):
        load_as_data(str(path))


def test_libraries_are_made_to_refuse(tmp_path, monkeypatch):
    """MMEngine itself loads such a file, with no more than a warning."""
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=Touch(tmp_path / 'ran')), path)
    monkeypatch.setenv(FORCE, '')  # so that it is as before afterwards
    monkeypatch.delenv(FORCE)
    refuse_code()
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04'])
def test_no_checkpoint(tmp_path, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='a.pth is damaged'):
        load_as_data(str(path))


def test_not_a_dict(tmp_path):
    torch.save([1], tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='a list, not a dict'):
        load_as_data(str(tmp_path / 'a.pth'))


def test_no_file():
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        load_as_data('nothing.pth')
