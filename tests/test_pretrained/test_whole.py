"""A checkpoint of another detector is an error in a test."""
from collections import OrderedDict

import pytest
import torch
from conftest import REPO
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_scconv.cli import check_checkpoint, load_weights
from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.pretrained.whole import load_whole, training_of

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


def test_a_file_with_more_than_the_model(trained):
    """And without step counters, as older versions of torch wrote it."""
    given = OrderedDict((key, value) for key, value in trained.items()
                        if 'num_batches_tracked' not in key)
    given['mask_head.weight'] = torch.ones(1)
    loaded = load_whole(detector(), given, 'a.pth')
    loaded.check()
    assert ('1 of the file are not in the model, the first is '
            'mask_head.weight') in str(loaded)


def test_the_dense_network(tmp_path):
    """The heads fit: it would be tested with random convolutions."""
    path = str(tmp_path / 'a.pth')
    torch.save(detector('ResNet').state_dict(), path)
    with pytest.raises(CheckpointError) as error:
        load_weights(detector(), check_checkpoint(path), path)
    said = str(error.value)
    assert said.startswith(f'{path} is of the dense network: ')
    assert 'the 8 swapped convolutions of this config' in said
    assert '\n' not in said
    assert f'Train with load_from={path}' in said
    assert (f'tools/model_converters/resnet_to_scconv.py {path} OUT --config '
            'CONFIG --whole-detector') in said


def test_a_dense_network_with_other_shapes():
    """Also convolutions that are named alike in both."""
    loaded = load_whole(detector('TiedConvResNet'),
                        detector('ResNet', classes=80).state_dict(), 'a.pth')
    assert len(loaded.dense) == 8
    with pytest.raises(CheckpointError, match='4 of .*fc_cls.weight is'):
        loaded.check()


def of_classes(state):
    return detector(classes=80).state_dict()


def of_width(state):
    model = Config.fromfile(CONFIG).model
    model.backbone.init_cfg = None
    return MODELS.build(model).state_dict()


def of_less_depth(state):
    return cut_out(state, 'backbone.layer3.1.')


def cut_out(state, part):
    return OrderedDict((key, value) for key, value in state.items()
                       if part not in key)


def encoder(state):
    return OrderedDict((f'encoder.{key}', value)
                       for key, value in state.items())


@pytest.mark.parametrize('change,message', [
    (of_classes,
     r'is not of this config: 4 of \d+ tensors have another shape, the first: '
     r'roi_head.bbox_head.fc_cls.weight is \(81, \d+\) in the file, '
     r'\(4, \d+\) in the model \(another number of classes\?\). Name the '
     r'config that it was trained with \(r18\), or a checkpoint'),
    (of_width, r'\d+ of \d+ tensors have another shape, the first: '
     r'backbone.conv1.weight is \(64, 3, 7, 7\) in the file, \(16, 3, 7, 7\) '
     r'in the model \(another depth or width\?\)'),
    (of_less_depth, r'\d+ of \d+ tensors of FasterRCNN are not in the file, '
     'the first is backbone.layer3.1.conv'),
    (lambda state: cut(state, 'backbone'),
     'no weights for neck, rpn_head, roi_head'),
    (encoder, "0 of .* fit: the names in the file begin with 'encoder.', "
     "those of the model with 'backbone.', 'neck.', 'rpn_head.', 'roi_head.'"),
    (lambda state: cut(state, 'neck', 'rpn_head', 'roi_head'),
     'no weights for backbone'),
    (lambda state: dict(model=state),
     "the names in the file begin with 'model', those"),
    (lambda state: cut_out(state, 'fc_reg.bias'),
     '1 of .* the first is roi_head.bbox_head.fc_reg.bias'),
])
def test_another_model_s(change, message, trained, tmp_path):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=change(trained), meta=dict(
        experiment_name='r18_20261126_190000')), path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(detector(), check_checkpoint(path), path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('checkpoint', [
    {}, dict(meta=None), dict(meta=dict(experiment_name='20261126_190000'))])
def test_a_training_that_is_not_named(checkpoint):
    assert training_of(checkpoint) == ''


def test_what_was_loaded_is_printed(trained, tmp_path, capsys):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(meta={}, state_dict=trained), path)
    load_weights(detector(), check_checkpoint(path), path)
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f'{path}: ') and 'rpn_head 6 of 6' in line
