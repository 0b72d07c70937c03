"""A test of a detector whose checkpoint is of another one is no test."""
from collections import OrderedDict

import pytest
import torch
from conftest import REPO
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_scconv.cli import check_checkpoint, load_weights
from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.pretrained.whole import load_whole

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'


def detector(backbone='SCConvResNet', classes=3):
    model = Config.fromfile(CONFIG).model
    model.backbone.update(type=backbone, base_channels=16, init_cfg=None)
    model.neck.in_channels = [16, 32, 64, 128]
    model.roi_head.bbox_head.num_classes = classes
    return MODELS.build(model)


@pytest.fixture(scope='module')
def trained():
    """As MMEngine saves it, versions of the modules included."""
    return detector().state_dict()


def cut(state, *parts):
    return OrderedDict((key, value) for key, value in state.items()
                       if key.startswith(parts))


def test_its_own(trained):
    model = detector()
    loaded = load_whole(model, trained, 'a.pth')
    loaded.check()
    assert not loaded.missing
    all_, total = loaded.counts()['roi_head']
    assert all_ == total == 8
    assert str(loaded).startswith(
        f'a.pth: {sum(loaded.totals.values())} of ')
    assert 'roi_head 8 of 8' in str(loaded) and 'RANDOM' not in str(loaded)
    assert all(torch.equal(value, trained[key])
               for key, value in model.state_dict().items())


def test_wrapped_models(trained):
    """DDP's names, and a test-time augmentation around the detector."""
    given = {f'module.{key}': value for key, value in trained.items()}
    loaded = load_whole(DetTTAModel(module=detector()), given, 'a.pth')
    loaded.check()
    assert loaded.model == 'FasterRCNN' and not loaded.missing


def test_a_backbone_of_other_convolutions_is_told(trained):
    """It may be meant: the heads fit."""
    loaded = load_whole(detector(), detector('ResNet').state_dict(), 'a.pth')
    loaded.check()
    assert 'RANDOMLY INITIALISED are' in str(loaded)
    assert 'conv2' in str(loaded) and 'is not in the file' in str(loaded)


@pytest.mark.parametrize('change,message', [
    (lambda state: detector(classes=80).state_dict(),
     r'is not of this config: roi_head.bbox_head.fc_cls.weight is \(81, \d+\) '
     r'in the file, \(4, \d+\) in the model .*number of classes'),
    (lambda state: cut(state, 'backbone'),
     'no weights for neck, rpn_head, roi_head'),
    (lambda state: OrderedDict((key.removeprefix('backbone.'), value)
                               for key, value in cut(state, 'backbone').items()
                               ), 'nothing in it fits FasterRCNN'),
    (lambda state: cut(state, 'neck', 'rpn_head', 'roi_head'),
     'no weights for backbone'),
    (lambda state: dict(model=state), 'nothing in it fits'),
    (lambda state: OrderedDict((key, value) for key, value in state.items()
                               if 'fc_reg.bias' not in key),
     'roi_head.bbox_head.fc_reg.bias is not in the file'),
])
def test_another_model_s(change, message, trained, tmp_path):
    path = str(tmp_path / 'a.pth')
    torch.save(change(trained), path)
    with pytest.raises(CheckpointError, match=message):
        load_weights(detector(), check_checkpoint(path), path)


def test_what_was_loaded_is_printed(trained, tmp_path, capsys):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(meta={}, state_dict=trained), path)
    load_weights(detector(), check_checkpoint(path), path)
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f'{path}: ') and 'rpn_head 6 of 6' in line
