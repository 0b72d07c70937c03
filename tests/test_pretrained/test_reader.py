"""Loading a checkpoint runs nothing that is in it."""
import os
import re
import shlex

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.pretrained import read_file


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
    loaded = read_file(str(tmp_path / 'a.pth'))
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 3.
    assert loaded['meta']['box'].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('zip_format', [True, False])
def test_code_is_refused(tmp_path, zip_format):
    path = tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict={}, meta=Touch(tmp_path / 'ran')), path,
        _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match='evil.pth is not.*mkdir'):
        read_file(str(path))
    assert not (tmp_path / 'ran').exists()


class Kept:
    """An object, not a tensor, that a training left in its checkpoint."""


@pytest.mark.parametrize('content', [
    lambda w: dict(state_dict=w, meta=Kept()),
    lambda w: dict(model=w, args=Kept()),
    lambda w: dict(w, meta=Kept()),
    lambda w: torch.nn.Linear(2, 1),
    lambda w: dict(model=torch.nn.Linear(2, 1), epoch=3),
])
def test_the_command_for_a_trusted_file_works(content, tmp_path, monkeypatch):
    """Wherever the weights lie in the file."""
    path = tmp_path / "a file's.pth"
    weights = torch.nn.Linear(2, 1).state_dict()
    torch.save(content(weights), path)
    with pytest.raises(CheckpointError) as error:
        read_file(str(path))
    said = str(error.value)
    assert len(said.splitlines()) == 2
    assert 'This command runs what the file holds' in said
    python, option, code, argument = shlex.split(said.splitlines()[1])
    assert (python, option, argument) == ('python', '-c', str(path))
    monkeypatch.setattr('sys.argv', ['-c', argument])
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # noqa: S102 (the command that is tested)
    written = read_file('weights.pth')['state_dict']
    assert {name: value.shape for name, value in written.items()} == {
        name: value.shape for name, value in weights.items()}


def test_getattr_is_refused(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=Reach()), path)
    with pytest.raises(CheckpointError, match='__init__'):
        read_file(str(path))


@pytest.mark.parametrize('value', [
    np.float32(0.5), np.int16(3), np.bool_(True), np.zeros(2, np.float16)])
def test_numbers_of_any_type(value, tmp_path):
    torch.save(dict(value=value), tmp_path / 'a.pth')
    read = read_file(str(tmp_path / 'a.pth'))['value']
    assert np.array_equal(read, value) and read.dtype == value.dtype


def test_as_numpy_1_wrote_it(tmp_path):
    """Its modules had another name."""
    path = tmp_path / 'a.pth'
    torch.save(dict(value=np.arange(3.)), path,
               _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b'numpy._core' in content
    path.write_bytes(content.replace(b'numpy._core', b'numpy.core'))
    assert read_file(str(tmp_path / 'a.pth'))['value'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04'])
def test_no_checkpoint(tmp_path, content, suffix):
    path = tmp_path / f'a{suffix}'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(
            f'a{suffix} is damaged')) as error:
        read_file(str(path))
    said = str(error.value)
    assert 'Download or copy it again, or take an earlier check' in said
    assert "b'" not in said and len(said.splitlines()) == 1


def test_not_a_dict(tmp_path):
    torch.save([1], tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='it is a list, a dict'):
        read_file(str(tmp_path / 'a.pth'))


def test_no_file():
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        read_file('nothing.pth')
