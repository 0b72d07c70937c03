"""A whole detector as one graph, beside MMDetection's predict."""

from functools import partial

import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.hub import get_config
from torch import nn

from mmdet_scconv.config import read_config
from mmdet_scconv.deployment.detections import detection_differences
from mmdet_scconv.deployment.export import export
from mmdet_scconv.deployment.judge import Part
from mmdet_scconv.deployment.operators import padded_nms, roi_align
from mmdet_scconv.deployment.parts import (
    detector_graph,
    metadata_of,
    part_of,
)
from mmdet_scconv.deployment.reference import Predictions

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
DIGITS = {
    'rtmdet': REPO / 'configs/digits/rtmdet_tiny_27e_digits.py',
    'yolox': REPO / 'configs/digits/yolox_tiny_9e_digits.py',
}
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


@pytest.mark.parametrize('shape', [(2, 75, 50), (1, 130, 97)])
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
        found = detector_graph(model)(images)
    assert (expected[2] >= 0).sum(1).min() > 5
    for one, other in zip(expected, found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def single_stage(name, **options):
    """RTMDet's or YOLOX's head on a small backbone, with three classes; scores
    and boxes differ from each other, as if trained."""
    torch.manual_seed(1)
    cfg = read_config(
        str(DIGITS[name]),
        {'model.bbox_head.num_classes': 3, 'model.bbox_head.in_channels': 8,
         'model.bbox_head.feat_channels': 8, **options})
    cfg.model.backbone = dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8,
        out_indices=(1, 2, 3))
    cfg.model.neck = dict(
        type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3)
    model = MODELS.build(cfg.model).eval()
    for layer in model.bbox_head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.2)
    return model


SINGLE_STAGE = [
    ('rtmdet', {'model.test_cfg.min_bbox_size': 4}),
    # more pairs of place and class than are taken on the first level
    ('rtmdet', {'model.test_cfg.nms_pre': 100,
                'model.test_cfg.max_per_img': 20}),
    ('yolox', {}),
    ('yolox', {'model.test_cfg.score_thr': 0.3}),
    ('yolox', {'model.test_cfg.max_per_img': 20}),
]


@pytest.mark.parametrize('shape', [(2, 96, 64), (1, 130, 97)])
@pytest.mark.parametrize('name,options', SINGLE_STAGE)
def test_single_stage_graph(shape, name, options):
    model = single_stage(name, **options)
    images = torch.randn(shape[0], 3, *shape[1:])
    with torch.no_grad():
        expected = Predictions(model)(images)
        found = detector_graph(model)(images)
    assert (expected[2] >= 0).sum(1).min() > 5
    assert len(expected[2][expected[2] >= 0].unique()) > 1
    for one, other in zip(expected, found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_graph_of_a_swapped_head():
    model = single_stage('yolox', **{
        'model.bbox_head.type': 'Swapped',
        'model.bbox_head.module': dict(type='YOLOXHead'),
        'model.bbox_head.select': dict(min_channels=8)})
    assert model.bbox_head.swap_report.swapped
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(Predictions(model)(images),
                              detector_graph(model)(images)):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('name', ['rtmdet', 'yolox'])
def test_metadata_of_a_backbone(name):
    """The stock RTMDet's preprocessor pads nothing, its neck needs 32."""
    cfg = read_config(
        str(DIGITS[name]),
        {'model.data_preprocessor.pad_size_divisor': 1})
    model = MODELS.build(cfg.model).eval()
    assert metadata_of(cfg, model)['size_divisor'] == '32'
    part = part_of(model, 'backbone')
    assert part.outputs == ('stage2', 'stage3', 'stage4')
    assert hasattr(model.backbone, part.outputs[0])


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
@pytest.mark.parametrize('model', [
    small_detector, partial(single_stage, 'rtmdet'),
    partial(single_stage, 'yolox')], ids=['faster-rcnn', 'rtmdet', 'yolox'])
def test_file(tmp_path, model, suffix):
    part = part_of(model(), 'detector')
    comparisons = export(part, str(tmp_path / f'a.{suffix}'), tolerance=1e-4,
                         rounds=1)
    assert min(c.difference.compared for c in comparisons) > 5


class Operators(nn.Module):
    """NMS of boxes that are read from the pixels, RoIAlign with the kept ones.
    """

    def __init__(self, sampling_ratio, aligned):
        super().__init__()
        self.options = sampling_ratio, aligned

    def forward(self, images):
        pixels = images.flatten(2).transpose(1, 2)
        corners = 10 * pixels[..., :2].abs()
        boxes = torch.cat([corners, corners + 10 * pixels[..., 1:].abs()], 2)
        kept = padded_nms(boxes, pixels[..., 0], 0.5, 0.3, 9)
        chosen = boxes.gather(
            1, kept.clamp(min=0).unsqueeze(2).expand(-1, -1, 4))
        image = torch.arange(images.shape[0]).to(boxes).view(-1, 1, 1)
        rois = torch.cat([image.expand(-1, 9, 1), chosen], 2).flatten(0, 1)
        maps = roi_align(images, rois, [3, 2], 0.5, *self.options)
        return kept, maps.unflatten(0, (-1, 9))


@pytest.mark.parametrize('options', [(0, True), (1, False)])
def test_operators_in_onnx(tmp_path, options):
    """Images with more boxes than are kept, with fewer, and with none."""
    module = Operators(*options)
    images = torch.randn(4, 3, 6, 7)
    images[1, 0].clamp_(max=0.3)
    images[2, 0, :5] = 0
    kept = module(images)[0]
    found = (kept >= 0).sum(1).tolist()
    assert found[0] == 9 and found[1] == 0 and 0 < found[2] < 9
    part = Part(module, module, ('kept', 'maps'))
    export(part, str(tmp_path / 'a.onnx'), [(1, 5, 9)], [images],
           tolerance=1e-5, rounds=1)


def detections(*rows, number=4):
    """One image's boxes, scores and labels, from (x1, score, label)."""
    boxes, scores = torch.zeros(1, number, 4), torch.zeros(1, number)
    labels = torch.full((1, number), -1)
    for i, (x, score, label) in enumerate(rows):
        boxes[0, i] = torch.tensor([x, 0., 100., 50.])
        scores[0, i], labels[0, i] = score, label
    return boxes, scores, labels


@pytest.mark.parametrize('found,absolute,relative,compared', [
    # another order
    ([(20., .8, 1), (10., .9, 1)], 0., 0., 2),
    ([(10., .9, 1), (22., .8, 1)], 2., 0.02, 2),
    ([(10., .9, 1), (20., .75, 1)], 0., 0.05, 2),
    # another class, one missing, one too many
    ([(10., .9, 1), (20., .8, 2)], float('inf'), float('inf'), 0),
    ([(10., .9, 1)], 10., 0.1, 2),
    ([(10., .9, 1), (20., .8, 1), (60., .4, 1)], 40., 0.4, 3),
    ([], float('inf'), float('inf'), 2),
    # one more, so near to the threshold that rounding may put it there
    ([(10., .9, 1), (20., .8, 1), (60., .0505, 1)], 0., 0., 2),
])
def test_detection_differences(found, absolute, relative, compared):
    difference, = detection_differences(
        detections((10., .9, 1), (20., .8, 1)), detections(*found), 0.05)
    assert difference.absolute == pytest.approx(absolute, abs=1e-5)
    assert difference.relative == pytest.approx(relative, abs=1e-6)
    if compared:
        assert difference.compared == compared


@pytest.mark.parametrize('wrong', [2., float('inf')])
def test_a_huge_box_does_not_hide_the_others(wrong):
    """YOLOX's boxes are not cut at the image's border, and may overflow."""
    one, other = (detections((10., .9, 1), (20., .8, 1)) for _ in range(2))
    for boxes, _, _ in (one, other):
        boxes[0, 0, 2] = float('inf')
    assert detection_differences(one, other, 0.05)[0].relative == 0
    other[0][0, 1, 0] += wrong
    assert detection_differences(one, other, 0.05)[0].relative >= 0.02 - 1e-6


@pytest.mark.parametrize('options,message', [
    ({'model.test_cfg.rcnn.nms.type': 'soft_nms'}, 'test_cfg.rcnn.nms='),
    ({'model.roi_head.bbox_roi_extractor.roi_layer.type': 'RoIPool',
      'model.roi_head.bbox_roi_extractor.roi_layer._delete_': True,
      'model.roi_head.bbox_roi_extractor.roi_layer.output_size': 7},
     'roi_layer RoIPool'),
    ({'model.roi_head.type': 'DoubleHeadRoIHead',
      'model.roi_head.reg_roi_scale_factor': 1.3},
     'roi_head DoubleHeadRoIHead'),
])
def test_other_detectors_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        part_of(small_detector(**options), 'detector')
    assert 'backbone can be exported alone' in str(error.value)


@pytest.mark.parametrize('name,options,message', [
    ('rtmdet', {'model.test_cfg.nms.type': 'soft_nms'}, 'test_cfg.nms='),
    ('rtmdet', {'model.test_cfg.nms_pre': -1}, 'test_cfg.nms_pre=-1'),
    ('rtmdet', {'model.bbox_head.bbox_coder.clip_border': False},
     'clip_border=False'),
    ('yolox', {'model.test_cfg.nms.type': 'soft_nms'}, 'test_cfg.nms='),
])
def test_other_single_stage_detectors_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        part_of(single_stage(name, **options), 'detector')
    assert 'backbone can be exported alone' in str(error.value)


@pytest.mark.parametrize('detector,message', [
    ('RetinaNet', 'detector RetinaNet .*: only FasterRCNN or .* RTMDet or'),
    ('SingleStageDetector', "bbox_head='RetinaHead' .*: only RTMDetHead, ")])
def test_other_heads_are_refused(detector, message):
    cfg = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg.model.type = detector
    with pytest.raises(ValueError, match=message):
        part_of(MODELS.build(cfg.model), 'detector')
