"""Figures of the SRUs of a tiny backbone."""
import cv2
import numpy as np
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_scconv.backbones import SCConvResNet
from mmdet_scconv.paper.complexity import switch_to_reference
from mmdet_scconv.visualization.feature_maps import (
    gate_figure,
    sru_figure,
    sru_maps,
    srus_of,
    stage_figure,
    stage_output,
    top_channels,
)
from mmdet_scconv.visualization.models import read_picture

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(80, 60), keep_ratio=True),
    dict(type='PackDetInputs')
]
CFG = Config(dict(test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))


class Detector(nn.Module):

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = SCConvResNet(18, base_channels=16, **options)
        self.data_preprocessor = DetDataPreprocessor(
            mean=[0, 0, 0], std=[255, 255, 255], pad_size_divisor=32)


@pytest.fixture(scope='module')
def model():
    init_default_scope('mmdet')
    model = Detector()
    model.eval()
    switch_to_reference(model)
    return model


@pytest.fixture(scope='module')
def picture(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('images') / 'a $x$.jpg'
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:20, 10:30] = (0, 0, 255)  # red, as OpenCV writes it
    cv2.imwrite(str(path), image)
    return read_picture(model, CFG, str(path))


def test_picture_is_resized_padded_and_rgb(picture):
    assert picture.pixels.shape == (60, 80, 3)
    assert picture.inputs.shape == (1, 3, 64, 96)
    red, green, blue = picture.pixels[25, 40]
    assert red > 200 and green < 50 and blue < 50


@pytest.mark.parametrize('name,error', [('missing.jpg', FileNotFoundError),
                                        ('damaged.jpg', ValueError)])
def test_picture_that_cannot_be_read(model, tmp_path, name, error):
    (tmp_path / 'damaged.jpg').write_bytes(b'nothing')
    with pytest.raises(error, match=name):
        read_picture(model, CFG, str(tmp_path / name))


def test_parts_make_up_input_and_output(model, picture):
    name = list(srus_of(model, 2))[-1]
    maps = sru_maps(model, picture, name)
    assert name == 'layer2.1.conv2.sru'
    # of 64 x 96 pixels 60 x 80 are the image
    assert maps.x.shape == (32, 8, 10)
    assert maps.cell == (8, 8)
    torch.testing.assert_close(maps.informative[maps.gate],
                               maps.x[maps.gate])
    assert (maps.damped[maps.gate] == 0).all()
    crossed = maps.damped.roll(16, 0)
    torch.testing.assert_close(maps.out, maps.informative + crossed)
    torch.testing.assert_close(
        maps.share, maps.gate.double().mean(0).float())


def test_bypassed_sru(model, picture):
    """Equal to a backbone whose SRUs pass everything."""
    without = stage_output(model, picture, 1, bypass_sru=True)
    assert not torch.equal(without, stage_output(model, picture, 1))
    other = Detector()
    other.load_state_dict(model.state_dict())
    other.eval()
    switch_to_reference(other)
    for block in other.backbone.layer1:
        block.conv2.sru = nn.Identity()
    torch.testing.assert_close(without, stage_output(other, picture, 1))


def test_top_channels():
    maps = torch.zeros(4, 2, 2)
    maps[2, 0, 0], maps[1, 0, 0] = 5, 1
    maps[3] = 9  # large, and says nothing
    assert top_channels(maps, 2) == [2, 1]


def test_channels_of_a_stage_in_both_panels():
    """Aligned, a channel is at the same place in both."""
    first, last = torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)
    first[0, 0, 0] = last[1, 1, 1] = 9.
    first[1, 0, 2] = last[0, 1, 2] = 1.

    def places(aligned):
        axes = stage_figure(dict(a=first, b=last), 1, aligned).axes
        return [np.argwhere(ax.images[0].get_array() == 1).tolist()
                for ax in axes]

    assert places(False) == [[[0, 0]], [[1, 1]]]
    assert places(True) == [[[0, 2]], [[1, 1]]]


def test_figures_have_labels(model, picture):
    name = next(iter(srus_of(model, 1)))
    maps = sru_maps(model, picture, name)
    figure = sru_figure(maps, channels=3)
    assert len(figure.axes) == 12
    assert figure.axes[3].get_ylabel() == 'informative\npart'
    image, overlay, bar = gate_figure(maps, picture).axes
    # the padding is not shown
    assert overlay.get_xlim() == (0, 80) and overlay.get_ylim() == (60, 0)
    assert bar.get_ylabel() == 'channels above the threshold (%)'
    panels = {'a': maps.x, 'b': maps.out}
    left, right = stage_figure(panels, side=2, aligned=True).axes
    assert left.get_title().startswith('a\nredundancy of all 16 channels: 0.')


@pytest.mark.parametrize('options,stage,message', [
    ({}, 5, 'stage=5 is not valid: SCConvResNet has stages 1 to 4'),
    (dict(stages_with_swap=(False, True, True, True)), 1, 'no SRU in it'),
    (dict(conv2_cfg=dict(units='C')), 2, 'no SRU in it'),
])
def test_stage_without_sru(options, stage, message):
    with pytest.raises(ValueError, match=message):
        srus_of(Detector(**options), stage)
