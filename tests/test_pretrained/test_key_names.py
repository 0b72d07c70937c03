import pytest
import torch
from mmdet.models.backbones import ResNet

from mmdet_scconv.pretrained.key_names import (
    depth_and_width,
    resnet_state_dict,
)


def weights(depth=18):
    with torch.device('meta'):
        return ResNet(depth, base_channels=8).state_dict()


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_depth_and_width(depth):
    assert depth_and_width(weights(depth)) == (depth, 8)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_prefixes_and_heads(prefix):
    inner = weights()
    given = {prefix + k: v for k, v in inner.items()}
    given['neck.conv1.weight'] = given['fc.weight'] = torch.zeros(1)
    assert resnet_state_dict(given) == inner


def test_classifier_inside():
    inner = weights()
    assert resnet_state_dict({**inner, 'fc.bias': torch.zeros(2)}) == inner


@pytest.mark.parametrize('change,message', [
    (lambda w: {}, 'no ResNet in the checkpoint'),
    (lambda w: {'a.' + k: v for k, v in w.items()} | w, '2 ResNets'),
    (lambda w: {k.replace('conv1.', 'conv1.0.', 1) if k == 'conv1.weight'
                else k: v for k, v in w.items()}, "'conv1.0.weight' is of"),
    (lambda w: w | {'layer1.0.se.fc1.weight': torch.zeros(1)},
     "'layer1.0.se.fc1.weight' is of another structure"),
    (lambda w: {k: v for k, v in w.items() if k != 'conv1.weight'},
     "'conv1.weight' is missing"),
])
def test_other_networks(change, message):
    with pytest.raises(ValueError, match=message):
        resnet_state_dict(change(weights()))


@pytest.mark.parametrize('change,message', [
    (lambda w: {k: v for k, v in w.items() if 'layer4.1' not in k},
     r'stages of \(2, 2, 2, 1\) blocks'),
    (lambda w: w | {'layer1.0.conv2.weight': torch.zeros(8, 2, 3, 3)},
     'grouped'),
])
def test_no_depth(change, message):
    with pytest.raises(ValueError, match=message):
        depth_and_width(change(weights()))


def test_wide():
    given = weights(50)
    given['layer1.0.conv3.weight'] = torch.zeros(16, 8, 1, 1)
    with pytest.raises(ValueError, match='wide'):
        depth_and_width(given)
