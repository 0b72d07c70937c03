"""A whole detector as one graph, beside MMDetection's predict."""

import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from torch import nn

from mmdet_scconv.analysis.models import read_config
from mmdet_scconv.deployment.detector import (
    DetectorGraph,
    Predictions,
)

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
SMALL = {
    'model.backbone.type': 'ResNet',
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.neck.in_channels': [8, 16, 32, 64],
    'model.neck.out_channels': 8,
    'model.rpn_head.in_channels': 8,
    'model.rpn_head.feat_channels': 8,
    'model.roi_head.bbox_roi_extractor.out_channels': 8,
    'model.roi_head.bbox_head.in_channels': 8,
    'model.roi_head.bbox_head.fc_out_channels': 32,
    'model.roi_head.bbox_head.num_classes': 3,
    # more anchors than are taken on the first levels, fewer on the last
    'model.test_cfg.rpn.nms_pre': 60,
    'model.test_cfg.rpn.max_per_img': 40,
    'model.test_cfg.rcnn.max_per_img': 30,
}


def small_detector(**options):
    """With scores and boxes that differ from each other, as if trained."""
    torch.manual_seed(1)
    cfg = read_config(str(CONFIG), {**SMALL, **options})
    model = MODELS.build(cfg.model).eval()
    for layer in (model.rpn_head.rpn_cls, model.roi_head.bbox_head.fc_cls):
        nn.init.normal_(layer.weight, std=0.5)
    for layer in (model.rpn_head.rpn_reg, model.roi_head.bbox_head.fc_reg):
        nn.init.normal_(layer.weight, std=0.2)
    return model


@pytest.mark.parametrize('shape', [(1, 64, 96), (2, 75, 50), (1, 130, 97)])
@pytest.mark.parametrize('options', [
    {},
    # adaptive sampling, as in MMDetection's own configs
    {'model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio': 0},
    {'model.roi_head.bbox_head.reg_class_agnostic': True},
    {'model.test_cfg.rpn.min_bbox_size': 20},
])
def test_graph(shape, options):
    model = small_detector(**options)
    images = torch.randn(shape[0], 3, *shape[1:])
    with torch.no_grad():
        expected = Predictions(model)(images)
        found = DetectorGraph(model)(images)
    assert (expected[2] >= 0).sum(1).min() > 5
    for one, other in zip(expected, found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
