import importlib.util
import os

import pytest
import torch
from mmdet.models.backbones import ResNet

from mmdet_scconv.backbones import SCConvResNet
from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.pretrained import prepare_pretrained

without_torchvision = pytest.mark.skipif(
    importlib.util.find_spec('torchvision') is not None,
    reason='torchvision is installed and resolves torchvision:// itself')


def backbone_from(checkpoint, cls=SCConvResNet):
    return cls(50, init_cfg=dict(type='Pretrained', checkpoint=checkpoint))


def cached(torch_home):
    return torch.load(
        torch_home / 'hub/checkpoints/resnet50-0676ba61.pth',
        weights_only=True)


@pytest.mark.parametrize('checkpoint', [
    pytest.param('torchvision://resnet50', marks=without_torchvision),
    'https://download.pytorch.org/models/resnet50-0676ba61.pth'
])
def test_dense_weights_from_the_cache(checkpoint, torch_home, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(torch_home))
    backbone = backbone_from(checkpoint)
    backbone.init_weights()
    weights = cached(torch_home)
    ours = backbone.state_dict()
    shared = [k for k in weights if '.conv2.' not in k]
    assert len(shared) == len(weights) - 16
    for key in shared:
        assert torch.equal(ours[key], weights[key]), key


def test_url_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/models/resnet50-0676ba61.pth'
    with pytest.raises(FileNotFoundError) as error:
        backbone_from(url).init_weights()
    message = str(error.value)
    assert url in message
    assert str(tmp_path / 'hub/checkpoints/resnet50-0676ba61.pth') in message
    assert 'model.backbone.init_cfg.checkpoint=FILE' in message


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="checkpoint='no/file.pth'"):
        backbone_from('no/file.pth').init_weights()


@without_torchvision
def test_unknown_torchvision_name():
    with pytest.raises(ValueError, match='torchvision://resnet101'):
        backbone_from('torchvision://resnet51').init_weights()


def test_stock_backbones_too():
    with pytest.raises(FileNotFoundError, match='of ResNet'):
        prepare_pretrained(backbone_from('no/file.pth', cls=ResNet))


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


def test_files_that_could_run_code_are_not_loaded(tmp_path):
    """MMEngine loads such a file, with no more than a warning."""
    path = str(tmp_path / 'evil.pth')
    torch.save(dict(state_dict={}, meta=Touch(tmp_path / 'ran')), path)
    with pytest.raises(CheckpointError, match='evil.pth is not loaded'):
        prepare_pretrained(backbone_from(path, cls=ResNet), local=True)
    assert not (tmp_path / 'ran').exists()


def test_other_init_cfgs_are_left_alone():
    prepare_pretrained(SCConvResNet(18))
