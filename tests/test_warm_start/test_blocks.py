import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

from mmdet_scconv.warm_start.blocks import build_pair, convert
from mmdet_scconv.warm_start.fit import FitError, fit

CONV2 = dict(gn_groups=4)
BATCHES = [4, 4]
LATE = dict(stages_with_swap=(False, False, True, True))


def source(depth=18, seed=0):
    """A dense ResNet of 8 channels whose statistics fit its weights."""
    torch.manual_seed(seed)
    backbone = ResNet(depth, base_channels=8, norm_eval=False)
    for m in backbone.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    backbone.train()
    backbone(torch.cat(images()))
    return backbone.state_dict()


def images(size=96):
    torch.manual_seed(1)
    return [nn.functional.avg_pool2d(torch.randn(n, 3, size, size), 3, 1, 1)
            for n in BATCHES]


def pair(depth=18, **cfg):
    torch.manual_seed(2)
    return build_pair(source(depth), dict(conv2_cfg=CONV2, **cfg))


def test_everything_but_conv2_is_copied():
    weights = source()
    _, backbone = build_pair(weights, dict(conv2_cfg=CONV2))
    ours = backbone.state_dict()
    copied = [k for k in weights if k in ours]
    assert len(weights) - len(copied) == 8
    assert all(torch.equal(ours[k], weights[k]) for k in copied)


def test_stages_without_swap_are_copied_whole():
    weights = source()
    dense, backbone = build_pair(weights, dict(
        conv2_cfg=CONV2, stages_with_swap=(False, False, False, True)))
    reports = convert(dense, backbone, images())
    assert [r.name for r in reports] == ['layer4.0', 'layer4.1']
    ours = backbone.state_dict()
    assert torch.equal(ours['layer2.0.conv2.weight'],
                       weights['layer2.0.conv2.weight'])


@pytest.mark.parametrize('cfg,message', [
    (dict(depth=50), 'depth=50 is not valid: the weights are of depth=18'),
    (dict(base_channels=16), 'base_channels=16'),
])
def test_settings_of_another_network(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_pair(source(), dict(conv2_cfg=CONV2, **cfg))


def test_missing_tensors():
    weights = source()
    del weights['layer2.0.bn1.running_mean']
    with pytest.raises(ValueError, match="'layer2.0.bn1.running_mean'"):
        build_pair(weights, dict(conv2_cfg=CONV2))


@pytest.mark.parametrize('depth,blocks', [(18, 8), (50, 16)])
def test_fitted_outputs_are_nearer(depth, blocks):
    """Of a Bottleneck's network too, whose conv2 has the strides."""
    dense, backbone = pair(depth)
    x = torch.cat(images())
    wanted = dense(x)[-1]
    reports = convert(dense, backbone, images())
    missed = (backbone(x)[-1] - wanted).var() / wanted.var()
    assert len(reports) == blocks
    for report in reports:
        assert report.conv2_fitted < report.conv2_initial
        assert report.block_distilled is None
    # untrained weights over all blocks: far from random, not near
    assert missed < 0.9


def test_distillation_helps_and_leaves_no_trace_elsewhere():
    dense, backbone = pair(**LATE)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    # held out what is trained on: so few images tell nothing of others
    reports = convert(dense, backbone, 2 * images()[:1], distill_steps=15,
                      lr=0.01)
    assert all(r.block_distilled <= r.block_fitted for r in reports)
    assert any(r.block_distilled < 0.98 * r.block_fitted for r in reports)
    for name, tensor in backbone.state_dict().items():
        if 'conv2' not in name and '.bn2.' not in name:
            assert torch.equal(tensor, before[name]), name
    assert not any(m.training for m in backbone.modules())


class Stop(Exception):
    pass


def test_goes_on_after_an_interruption(tmp_path, monkeypatch):
    """With the blocks that were finished, to the same weights."""
    def run(state_dir, **options):
        dense, backbone = pair(**LATE)
        torch.manual_seed(3)
        convert(dense, backbone, images(), state_dir=str(state_dir),
                request=dict(a=1), **options)
        return backbone.state_dict()

    wanted = run(tmp_path / 'whole')

    def stop(name, share):
        if name == 'layer4.0':
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / 'part', advance=stop)
    fitted = []
    monkeypatch.setattr('mmdet_scconv.warm_start.blocks.fit', lambda *args: (
        fitted.append(1), fit(*args))[1])
    found = run(tmp_path / 'part')
    assert len(fitted) == 2
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_blocks_of_another_conversion(tmp_path):
    for request in (dict(a=1), dict(a=2)):
        dense, backbone = pair(**LATE)
        if request['a'] == 1:
            convert(dense, backbone, images(), state_dir=str(tmp_path),
                    request=request)
    with pytest.raises(ValueError, match='holds another conversion'):
        convert(dense, backbone, images(), state_dir=str(tmp_path),
                request=request)


def test_too_few_images():
    with pytest.raises(ValueError, match='1 batches of images'):
        convert(*pair(**LATE), images()[:1])


def test_weights_that_are_not_finite_name_the_block():
    weights = source()
    weights['layer3.0.conv1.weight'][0] = float('nan')
    dense, backbone = build_pair(weights, dict(conv2_cfg=CONV2))
    with pytest.raises(FitError, match='layer3.0.conv2: .*not finite'):
        convert(dense, backbone, images())
