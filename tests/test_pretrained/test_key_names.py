import pytest
import torch
from mmdet.models.backbones import ResNet, ResNeXt
from torch import nn

from mmdet_scconv.backbones import CIFARResNet
from mmdet_scconv.pretrained.key_names import (
    resnet_settings,
    resnet_state_dict,
    with_shortcuts,
)


def weights(depth=18):
    with torch.device('meta'):
        return ResNet(depth, base_channels=8).state_dict()


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_resnet_settings(depth):
    assert resnet_settings(weights(depth)) == dict(
        depth=depth, base_channels=8)


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
     'grouped convolutions are known in ResNeXts'),
])
def test_no_depth(change, message):
    with pytest.raises(ValueError, match=message):
        resnet_settings(change(weights()))


@pytest.mark.parametrize('groups,base_width', [(32, 4), (64, 4), (32, 8)])
def test_settings_of_a_resnext(groups, base_width):
    settings = dict(depth=50, base_channels=64, groups=groups,
                    base_width=base_width)
    with torch.device('meta'):
        inner = ResNeXt(**settings).state_dict()
    assert resnet_settings(inner) == settings


def test_wide():
    given = weights(50)
    given['layer1.0.conv3.weight'] = torch.zeros(16, 8, 1, 1)
    with pytest.raises(ValueError, match='wide'):
        resnet_settings(given)


@pytest.mark.parametrize('depth', [20, 32, 44, 56, 110])
def test_resnet_settings_of_cifar(depth):
    with torch.device('meta'):
        inner = CIFARResNet(depth).state_dict()
    assert resnet_settings(inner) == dict(depth=depth, base_channels=16)


def test_shortcuts_without_weights():
    """They do what He's option A does."""
    torch.manual_seed(0)
    network = CIFARResNet(20)
    network.eval()
    inner = {k: v for k, v in network.state_dict().items()
             if '.downsample.' not in k}
    given = with_shortcuts(inner, network.state_dict())
    network.load_state_dict(given, strict=False)
    for layer, outputs in ((network.layer2, 32), (network.layer3, 64)):
        x = torch.randn(2, outputs // 2, 8, 8)
        wanted = nn.functional.pad(x[:, :, ::2, ::2],
                                   (0, 0, 0, 0, outputs // 4, outputs // 4))
        torch.testing.assert_close(layer[0].downsample(x), wanted)
    assert all(torch.equal(given[k], v) for k, v in inner.items())


def test_shortcuts_with_weights_stay():
    inner = CIFARResNet(20).state_dict()
    assert with_shortcuts(inner, inner) == inner
