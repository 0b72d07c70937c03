"""Exported files: right ones agree with PyTorch, wrong ones are deleted."""
import copy
import runpy
import sys

import onnxruntime
import pytest
import torch
from conftest import REPO
from torch import nn

from mmdet_scconv.classification import ImageClassifier
from mmdet_scconv.deployment.export import export
from mmdet_scconv.deployment.files import (
    check_packages,
    load,
    read_metadata,
)
from mmdet_scconv.deployment.gates import Gates
from mmdet_scconv.deployment.judge import (
    JUDGED,
    Difference,
    ExportError,
    Part,
    differences,
    judge_picture,
    judge_random,
    shrink,
)
from mmdet_scconv.deployment.parts import part_of
from mmdet_scconv.layers import SCConv
from mmdet_scconv.layers.scconv import SRU

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


@pytest.mark.parametrize('name', ['backbone', 'classifier'])
def test_the_model_stays_as_it_is(name):
    """A copy is exported; the reference is the model."""
    model = small_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    part = part_of(model, name)
    assert isinstance(model.backbone.layer1[0].conv2, SCConv)
    assert not any(isinstance(module, SCConv)
                   for module in part.module.modules())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(after[key].equal(value) for key, value in before.items())


class Untraceable(nn.Module):

    def forward(self, images):
        if images.sum() > 0:
            return images,
        return -images,


def test_what_cannot_be_traced_is_one_line(tmp_path):
    with pytest.raises(ExportError, match='cannot be traced') as error:
        export(Part(Untraceable(), Stem(), ('out', )),
               str(tmp_path / 'a.pt2'), [(1, 8, 8)])
    assert '\n' not in str(error.value)
    assert names(tmp_path) == []


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


def test_a_wrong_export_leaves_no_file(tmp_path):
    part = Part(Stem(), Stem(), ('out', ))
    part.reference.load_state_dict(part.module.state_dict())
    with torch.no_grad():
        part.reference.conv.weight[7] *= 1.1
    (tmp_path / 'old.onnx').write_text('an older file')
    for name in ('old.onnx', 'new.onnx', 'new.pt2'):
        with pytest.raises(ExportError, match='more than 1.0e-03') as error:
            export(part, str(tmp_path / name), [(1, 64, 96)], rounds=1)
        assert error.value.comparisons[0].difference.relative > 1e-3
    assert names(tmp_path) == ['old.onnx']
    assert (tmp_path / 'old.onnx').read_text() == 'an older file'


class EvenSizes(nn.Module):

    def forward(self, images):
        return images.unflatten(3, (-1, 2)),


def test_a_file_that_cannot_be_run_is_deleted(tmp_path):
    part = Part(EvenSizes(), Stem(), ('out', ))
    for name in ('a.onnx', 'a.pt2'):
        with pytest.raises(ExportError, match=r'on \(1, 3, 8, 5\)'):
            export(part, str(tmp_path / name), [(1, 8, 5)], rounds=1)
    assert names(tmp_path) == []


def test_without_anything_to_compare_there_is_no_file(tmp_path):
    module = Stem()
    part = Part(
        module,
        module, ('out', ),
        differences=lambda *outputs: [Difference(0., 0., 0)])
    with pytest.raises(ExportError, match='nothing was detected'):
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


class WrongOnSome(nn.Module):
    """Wrong for a share of its inputs: those whose first pixel is low."""

    def __init__(self, module, share):
        super().__init__()
        self.module = module
        self.limit = torch.distributions.Normal(0., 1.).icdf(
            torch.tensor(share)).item()

    def forward(self, images):
        wrong = (images[:, :1, :1, :1] < self.limit).to(images.dtype)
        return tuple(out * (1 + 0.1 * wrong) for out in self.module(images))


@pytest.mark.parametrize('share', [0.9, 0.1])
@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
def test_wrong_on_some_of_its_inputs(share, suffix, tmp_path):
    """It was judged right in one of twenty draws."""
    torch.manual_seed(0)
    module = Stem()
    part = Part(WrongOnSome(module, share), module, ('out', ))
    with pytest.raises(ExportError, match='judged images .* by up to 1.0e-01'):
        export(part, str(tmp_path / f'a.{suffix}'), [(2, 8, 9)], rounds=1)
    assert names(tmp_path) == []


@pytest.fixture(scope='module')
def gated():
    """Of many SRUs, as in a real network."""
    part = part_of(small_model(stages=2), 'backbone')
    return part, Gates(part.reference)


@pytest.mark.parametrize('seed', range(3))
def test_wrong_on_some_is_seen_beside_thresholds(gated, seed):
    part, gates = gated
    wrong = WrongOnSome(part.module, 0.1)
    generator = torch.Generator().manual_seed(seed)
    tallies = judge_random(part, gates, wrong, part.shapes, 1e-3, generator)
    assert sum(tally.wrong for tally in tallies) == 1


@pytest.mark.parametrize('seed', range(5))
def test_right_ones_pass(gated, seed):
    """Also those whose values come near thresholds: not all are judged."""
    part, gates = gated
    generator = torch.Generator().manual_seed(seed)
    tallies = judge_random(
        part, gates, part.module, part.shapes, 1e-4, generator)
    assert sum(tally.judged for tally in tallies) >= JUDGED
    assert not any(tally.wrong for tally in tallies)


def test_gates_tell_which_images_rounding_decides():
    """The value in the middle of the second image is put on the threshold."""
    torch.manual_seed(0)
    sru = SRU(4, gn_groups=2)
    images = torch.randn(3, 4, 5, 5)
    assert Gates(nn.Sequential(sru)).clear(images) == [True] * 3
    normed = nn.functional.group_norm(images, 2)[1, 3, 2, 2]
    with torch.no_grad():
        sru.gn.bias[3] = -normed
    assert Gates(nn.Sequential(sru)).clear(images) == [True, False, True]
    assert sru.gn.bias[3] == -normed and not sru._forward_pre_hooks
    assert Gates(Stem()).clear(images) == [True] * 3


def test_a_zero_may_be_on_either_side():
    """Channels that a ReLU has emptied are on the threshold as a whole."""
    torch.manual_seed(0)
    images = torch.randn(2, 4, 5, 5)
    images[0, 2:] = 0
    gates = Gates(nn.Sequential(SRU(4, gn_groups=2)))
    assert gates.clear(images) == [True, True]


class Undecided(nn.Module):
    """Near a threshold everywhere."""

    def __init__(self):
        super().__init__()
        self.sru = SRU(16)
        nn.init.zeros_(self.sru.gn.weight)

    def forward(self, images):
        return self.sru(images.repeat(1, 6, 1, 1)[:, :16]),


def test_what_cannot_be_judged_leaves_no_file(tmp_path):
    part = Part(Undecided(), Undecided(), ('out', ))
    with pytest.raises(ExportError, match='random images 0 could be judged'):
        export(part, str(tmp_path / 'a.pt2'), [(2, 9, 9)], rounds=1)
    with pytest.raises(ExportError, match='a picture could not be judged'):
        export(part, str(tmp_path / 'a.pt2'), [], [torch.randn(1, 3, 70, 70)],
               rounds=1)
    assert names(tmp_path) == []


class Threshold(nn.Module):
    """A threshold other than an SRU's, as in an NMS, set to a pixel's value.
    """

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        high = (images[:, :1, :1, :1] > self.value).to(images.dtype)
        return images + high,


@pytest.mark.parametrize('apart,judged', [(0., False), (1e-3, True)])
def test_other_thresholds(apart, judged):
    """A difference that a change of the input by a millionth also makes is
    accepted; a larger one is not."""
    picture = torch.randn(1, 3, 70, 70)
    value = picture[0, 0, 0, 0].item()
    reference = Threshold(value - apart)
    part = Part(reference, reference, ('out', ))
    found, tally = judge_picture(
        part, Gates(reference), Threshold(value + 1e-7 + apart), picture,
        1e-3, torch.Generator().manual_seed(0))
    assert torch.equal(found, picture)
    assert bool(tally.wrong) == judged


@pytest.mark.parametrize('size,most,expected', [
    ((100, 160), 160, (100, 160)),
    ((800, 1333), 160, (96, 160)),
    ((800, 1333), 80, (66, 80)),
    ((1000, 100), 160, (160, 66)),
])
def test_large_images_are_made_small(size, most, expected):
    assert shrink(torch.ones(1, 3, *size), most).shape == (1, 3, *expected)


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
    ([DETECTOR, '--out', '/dev/null/x/a.pt2'], 'Not a directory'),
    ([DETECTOR, '--out', 'a.pt2', '--tolerance', '-1'],
     r'tolerance=-1.0 is not valid'),
    ([DETECTOR, '--out', 'a.pt2', '--images', 'nothing.jpg'],
     'no such image: nothing.jpg'),
])
def test_bad_input(tool, tmp_path, args, message):
    with pytest.raises(SystemExit, match=message):
        tool(*args)
    assert names(tmp_path) == []


def test_invalid_shapes_on_the_command_line(tool, capsys):
    with pytest.raises(SystemExit):
        tool(DETECTOR, '--out', 'a.pt2', '--check-shapes', '2x32xx')
    assert '--check-shapes 2x32xx: as 2x160x128' in capsys.readouterr().err
