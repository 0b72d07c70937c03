"""Exported files: right ones agree with PyTorch, wrong ones are no files."""
import copy
import runpy
import sys

import onnxruntime
import pytest
import torch
from conftest import REPO
from torch import nn

from mmdet_scconv.classification import ImageClassifier
from mmdet_scconv.deployment.export import (
    Difference,
    Part,
    WrongExport,
    check_packages,
    compare,
    differences,
    export,
    load,
    read_metadata,
    shrink,
)
from mmdet_scconv.deployment.parts import part_of
from mmdet_scconv.layers import SCConv

DETECTOR = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
CLASSIFIER = REPO / 'configs/demo/scconv-r18_10e_digits-classification.py'


def settle(model, size):
    """Gives BatchNorms statistics, and gains of any sign."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.momentum = 1.
    model(torch.randn(size))
    return model.eval()


def small_model(backbone='SCConvResNet', depth=18, stages=1):
    torch.manual_seed(0)
    model = ImageClassifier(
        dict(
            type=backbone,
            depth=depth,
            base_channels=16,
            stem_channels=16,
            num_stages=stages,
            strides=(1, 2)[:stages],
            dilations=(1, 1)[:stages],
            out_indices=(0, 1)[:stages],
            norm_eval=False),
        num_classes=5)
    return settle(model, (2, 3, 64, 64))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_onnx(tmp_path):
    """On sizes that were not traced, odd ones and a batch of one included."""
    part = part_of(small_model(), 'backbone', dict(mean='1 2 3'))
    path = str(tmp_path / 'new folder' / 'backbone.onnx')
    comparisons = export(
        part, path, [(1, 33, 47), (3, 97, 131)], tolerance=1e-4, rounds=1)
    assert [c.shape for c in comparisons] == [(1, 3, 33, 47), (3, 3, 97, 131)]
    assert all(
        0 < c.difference.relative < 1e-4 and c.torch_seconds > 0
        and c.file_seconds > 0 for c in comparisons)
    assert names(tmp_path / 'new folder') == ['backbone.onnx']
    assert read_metadata(path) == dict(
        mean='1 2 3', part='backbone', backbone='SCConvResNet, deployed')
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ['batch', 3, 'height', 'width']
    outputs = {out.name: out.shape[:2] for out in session.get_outputs()}
    assert outputs == dict(stage1=['batch', 16])


class Strided(nn.Module):
    """An SCConv as the 3x3 of a Bottleneck with stride."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.conv = SCConv(16, 24, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(24)

    def forward(self, images):
        return self.norm(self.conv(self.stem(images))),


@pytest.fixture(scope='module')
def strided():
    torch.manual_seed(0)
    module = settle(Strided(), (2, 3, 32, 32))
    reference = copy.deepcopy(module)
    module.conv = module.conv.deploy(module.norm)
    module.norm = nn.Identity()
    return Part(module, reference, ('out', ), dict(classes='a\nb'))


def test_onnx_of_a_stride(tmp_path, strided):
    """Odd sizes: the pooled branch has a last window that is cut off."""
    export(
        strided,
        str(tmp_path / 'a.onnx'), [(1, 33, 48), (2, 47, 30)],
        tolerance=1e-4,
        rounds=1)


def test_a_program_is_loaded_again(tmp_path, strided):
    path = str(tmp_path / 'a.pt2')
    export(strided, path, [(2, 33, 47)], tolerance=1e-4, rounds=1)
    images = torch.randn(1, 3, 70, 50)
    with torch.no_grad():
        expected, = strided.reference(images)
    torch.testing.assert_close(
        load(path)(images)[0], expected, rtol=1e-4, atol=1e-4)
    assert read_metadata(path)['classes'] == 'a\nb'


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
@pytest.mark.parametrize('backbone,deployed', [
    ('ResNet', ''),
    ('SCConvResNet', ', deployed'),
    ('SPConvResNet', ', deployed'),
    ('SlimConvResNet', ', deployed'),
    ('GhostResNet', ', deployed'),
    ('TiedConvResNet', ', deployed'),
    ('OctConvResNet', ', deployed'),
])
def test_other_backbones(tmp_path, backbone, deployed, suffix):
    part = part_of(small_model(backbone, depth=50, stages=2), 'backbone')
    assert part.metadata['backbone'] == backbone + deployed
    export(part, str(tmp_path / f'file.{suffix}'), tolerance=1e-4, rounds=1)


class Stem(nn.Module):

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3)

    def forward(self, images):
        return self.conv(images),


def test_a_wrong_export_is_no_file(tmp_path):
    part = Part(Stem(), Stem(), ('out', ))
    part.reference.load_state_dict(part.module.state_dict())
    with torch.no_grad():
        part.reference.conv.weight[7] *= 1.1
    (tmp_path / 'old.onnx').write_text('an older file')
    for name in ('old.onnx', 'new.onnx', 'new.pt2'):
        with pytest.raises(WrongExport, match='more than 1.0e-03') as error:
            export(part, str(tmp_path / name), [(1, 64, 96)], rounds=1)
        assert error.value.comparisons[0].difference.relative > 1e-3
    assert names(tmp_path) == ['old.onnx']
    assert (tmp_path / 'old.onnx').read_text() == 'an older file'


class EvenSizes(nn.Module):

    def forward(self, images):
        return images.unflatten(3, (-1, 2)),


def test_a_file_that_cannot_be_run_is_no_file(tmp_path):
    part = Part(EvenSizes(), Stem(), ('out', ))
    for name in ('a.onnx', 'a.pt2'):
        with pytest.raises(WrongExport, match=r'on \(1, 3, 8, 5\)'):
            export(part, str(tmp_path / name), [(1, 8, 5)], rounds=1)
    assert names(tmp_path) == []


def test_without_anything_to_compare_there_is_no_file(tmp_path):
    module = Stem()
    part = Part(
        module,
        module, ('out', ),
        differences=lambda *outputs: [Difference(0., 0., 0)])
    with pytest.raises(WrongExport, match='nothing was detected'):
        export(part, str(tmp_path / 'a.pt2'), [(1, 8, 8)], rounds=1)
    assert names(tmp_path) == []


def test_differences():
    """Of each image, relative to its largest value."""
    one = torch.tensor([[1., -4.], [2., float('inf')]])
    other = torch.tensor([[1., -3.], [2., float('inf')]])
    first, second = differences([one], [other])
    assert (first.absolute, first.relative, first.compared) == (1, 0.25, 2)
    assert (second.absolute, second.relative) == (0, 0)
    nan = torch.tensor([[1., float('nan')], [2., 1.]])
    assert [d.relative for d in differences([one], [nan])] == [float('inf')
                                                               ] * 2


def test_images_are_drawn_until_each_has_agreed():
    """A threshold that rounding crosses in one image of one draw."""
    calls = []

    def run(images):
        calls.append(images)
        outputs = [images.clone()]
        if len(calls) <= 2:
            outputs[0][len(calls) - 1] += 1
        return outputs

    part = Part(nn.Identity(), lambda images: [images], ('out', ))
    images = torch.randn(2, 3, 4, 4)
    found = compare(part, run, images, tolerance=1e-4, rounds=1)
    assert found.draws == 2 and found.difference.absolute == 0
    assert torch.equal(calls[0], images)
    assert not torch.equal(calls[1], images)


@pytest.mark.parametrize('size,expected', [
    ((100, 160), (100, 160)),
    ((800, 1333), (96, 160)),
    ((1000, 100), (160, 66)),
])
def test_large_images_are_made_small(size, expected):
    assert shrink(torch.ones(1, 3, *size)).shape == (1, 3, *expected)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r'mmdet-scconv\[export\]'):
        check_packages('a.onnx')
    check_packages('a.pt2')


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, args)])
        runpy.run_path(
            str(REPO / 'tools/deployment/export.py'), run_name='__main__')
        return capsys.readouterr().out

    return run


def test_the_tool(tool):
    """A stock backbone has no deployed form: it is exported as it is."""
    output = tool(CLASSIFIER, '--out', 'a.pt2', '--part', 'classifier',
                  '--check-shapes', '1x40x40', '2x33x47', '--shape', 48, 48,
                  '--rounds', 1, '--cfg-options', 'model.backbone.type=ResNet')
    assert 'Weights are random' in output
    assert 'classifier: ResNet\n' in output
    for shape in ('1x3x40x40', '2x3x33x47', '1x3x48x48'):
        assert shape in output
    metadata = read_metadata('a.pt2')
    assert metadata['classes'].startswith('zero\none')
    assert metadata['channels'] == 'RGB'
    assert metadata['config'] == CLASSIFIER.name


@pytest.mark.parametrize('args,message', [
    ([DETECTOR, '--out', 'a.pth'], r"path='a.pth' is not valid"),
    ([DETECTOR, '--out', 'a.pt2', '--part', 'classifier'],
     "part='classifier' is not valid: only of an ImageClassifier"),
    ([CLASSIFIER, '--out', 'a.pt2', '--part', 'detector'],
     'detector ImageClassifier cannot be exported'),
    ([DETECTOR, 'nothing.pth', '--out', 'a.pt2'], 'nothing.pth'),
    ([DETECTOR, '--out', 'a.pt2', '--check-shapes', '0x32x32'],
     r'shape=\(0, 32, 32\) is not valid'),
    ([DETECTOR, '--out', 'a.pt2', '--check-shapes', '32x32'],
     r'shape=\(32, 32\) is not valid'),
    ([DETECTOR, '--out', 'a.pt2', '--tolerance', '-1'],
     r'tolerance=-1.0 is not valid'),
    ([DETECTOR, '--out', 'a.pt2', '--images', 'nothing.jpg'],
     'no such image: nothing.jpg'),
])
def test_bad_input(tool, tmp_path, args, message):
    with pytest.raises(SystemExit, match=message):
        tool(*args)
    assert names(tmp_path) == []


def test_what_is_no_shape(tool, capsys):
    with pytest.raises(SystemExit):
        tool(DETECTOR, '--out', 'a.pt2', '--check-shapes', '2x32xx')
    assert '--check-shapes 2x32xx: as 2x160x128' in capsys.readouterr().err
