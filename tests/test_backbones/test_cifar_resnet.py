import pytest
import torch
from torch import nn

from mmdet_scconv.backbones import CIFARGhostResNet, CIFARResNet
from mmdet_scconv.layers import SCConv

SCCONV = dict(type='SCConv')


@pytest.mark.parametrize('depth,shape', [
    (20, (64, 8, 8)),
    (56, (64, 8, 8)),
    (18, (512, 4, 4)),
    (50, (2048, 4, 4)),
])
@pytest.mark.parametrize('conv2_cfg', [None, SCCONV])
def test_the_last_stage_is_the_output(depth, shape, conv2_cfg):
    backbone = CIFARResNet(depth, conv2_cfg).eval()
    outs = backbone(torch.rand(2, 3, 32, 32))
    assert [tuple(out.shape) for out in outs] == [(2, *shape)]
    assert backbone.feat_dim == shape[0]


def test_out_indices():
    outs = CIFARResNet(20, out_indices=(0, 2))(torch.rand(2, 3, 32, 32))
    assert [tuple(out.shape[1:]) for out in outs] == [(16, 32, 32),
                                                      (64, 8, 8)]


def test_the_second_convolution_of_a_block_is_replaced():
    backbone = CIFARResNet(56, SCCONV)
    blocks = [
        block for stage in ('layer1', 'layer2', 'layer3')
        for block in getattr(backbone, stage)
    ]
    assert len(blocks) == 27
    for block in blocks:
        assert type(block.conv1) is nn.Conv2d
        assert type(block.conv2) is SCConv


def test_dense_by_default_with_the_same_keys():
    dense = CIFARResNet(20)
    assert not any(isinstance(m, SCConv) for m in dense.modules())
    swapped = CIFARResNet(20, SCCONV)
    assert [k for k in dense.state_dict() if '.conv2.' not in k] == [
        k for k in swapped.state_dict() if '.conv2.' not in k
    ]


def test_every_parameter_gets_a_gradient():
    backbone = CIFARGhostResNet(20, norm_eval=False)
    backbone.init_weights()
    backbone.train()
    backbone(torch.rand(2, 3, 32, 32))[0].mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_the_stem_can_be_frozen():
    backbone = CIFARResNet(20, frozen_stages=1)
    assert not backbone.conv1.weight.requires_grad
    assert not any(p.requires_grad for p in backbone.layer1.parameters())
    assert all(p.requires_grad for p in backbone.layer2.parameters())


def test_deep_stem():
    with pytest.raises(ValueError, match='deep_stem=True is not valid'):
        CIFARResNet(20, deep_stem=True)
