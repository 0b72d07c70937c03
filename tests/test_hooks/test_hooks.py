import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from conftest import REPO
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import InstanceData
from torch._dynamo.testing import CompileCounter
from toy import Rising

from mmdet_scconv.backbones import SCConvResNet
from mmdet_scconv.hooks import (
    ChannelsLastHook,
    CheckPretrainedHook,
    CompileHook,
    DeployHook,
    check_pretrained_hook,
    compile_hook,
)
from mmdet_scconv.layers.fused import DeployedSCConv
from mmdet_scconv.memory_format import use_channels_last


class Loop(BaseLoop):

    def __init__(self):
        """A training loop that was built."""

    def run(self):
        raise AssertionError('not run here')


def runner(train_loop, **model_options):
    return SimpleNamespace(
        model=torch.nn.Sequential(ResNet(18, **model_options)),
        _train_loop=train_loop)


MISSING = dict(init_cfg=dict(type='Pretrained', checkpoint='no/file.pth'))


def test_check_pretrained_before_a_training():
    with pytest.raises(FileNotFoundError, match='no/file.pth'):
        CheckPretrainedHook().before_run(runner(Loop(), **MISSING))


@pytest.fixture
def log(monkeypatch):
    """Pairs of level and line."""
    said = []
    monkeypatch.setattr(
        check_pretrained_hook, 'print_log',
        lambda line, logger, level: said.append((level, line)))
    return said


def check_file(tmp_path, state, **init_cfg):
    path = str(tmp_path / 'r18.pth')
    torch.save(state, path)
    CheckPretrainedHook().before_run(runner(Loop(), init_cfg=dict(
        dict(type='Pretrained', checkpoint=path), **init_cfg)))
    return path


@pytest.mark.parametrize('before,init_cfg,count', [
    ('', {}, 100),
    ('module.', {}, 100),
    ('backbone.', dict(prefix='backbone'), 100),
    ('backbone.', {}, 0),
])
def test_what_fits_a_stock_backbone(tmp_path, log, before, init_cfg, count):
    state = {before + key: value for key, value in ResNet(18)
             .state_dict().items()}
    path = check_file(tmp_path, dict(state_dict=state), **init_cfg)
    (level, line), = log
    assert line.startswith(
        f'ResNet from {path}: {count} of 100 tensors are loaded, '
        f'{100 - count} are not in the file, 0 have another shape')
    assert level == (logging.INFO if count else logging.WARNING)
    assert ("the names in the file begin with 'backbone.'" in line) == (
        not count)


def test_what_fits_is_not_known_where_names_are_converted(tmp_path, log):
    """Swin renames a file's tensors while it loads them."""
    path = str(tmp_path / 'swin.pth')
    torch.save(dict(weight=torch.ones(1)), path)
    swin = MODELS.build(dict(
        type='SwinTransformer', depths=(1, 1, 1, 1), embed_dims=24,
        init_cfg=dict(type='Pretrained', checkpoint=path)))
    CheckPretrainedHook().before_run(
        SimpleNamespace(model=swin, _train_loop=Loop()))
    assert log == []


def test_a_test_needs_no_initial_weights():
    config_of_a_loop = dict(type='EpochBasedTrainLoop')
    CheckPretrainedHook().before_run(runner(config_of_a_loop, **MISSING))


@pytest.fixture
def detector():
    """The demo's detector, in evaluation mode (batch norm, no sampling); one
    stage swapped, as tracing takes long."""
    cfg = Config.fromfile(
        REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py')
    cfg.model.backbone.stages_with_swap = (False, False, True, False)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.eval()
    return model


def test_channels_last_gives_the_same_detections(detector):
    """mmcv's RoIAlign must not see channels_last. For given proposals: which
    ones are chosen depends on rounding, where scores are near each other."""
    x = torch.randn(1, 3, 96, 96)
    samples = [DetDataSample(metainfo=dict(
        img_shape=(96, 96), ori_shape=(96, 96), scale_factor=(1., 1.)))]
    proposals = [InstanceData(bboxes=torch.tensor(
        [[8., 8., 50., 60.], [20., 10., 90., 80.], [0., 30., 96., 96.]]))]

    def outputs():
        maps = detector.extract_feat(x)
        return *maps, *detector.roi_head.forward(maps, proposals, samples)

    expected = outputs()
    ChannelsLastHook().before_run(SimpleNamespace(model=detector))
    actual = outputs()
    assert detector.backbone.conv1.weight.is_contiguous(
        memory_format=torch.channels_last)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('wrapped', [False, True])
def test_channels_last_without_a_neck(wrapped):
    model = torch.nn.Module()
    model.backbone = ResNet(18)
    run = SimpleNamespace(
        model=MMDataParallelStandIn(model) if wrapped else model)
    ChannelsLastHook().before_run(run)
    for output in model.backbone(torch.randn(1, 3, 64, 64)):
        assert output.is_contiguous()


@pytest.mark.parametrize('devices,on_cpu,on_gpu', [
    ('all', True, True), ('cpu', True, False), ('none', False, False)])
def test_channels_last_on_some_devices(devices, on_cpu, on_gpu):
    """The meta device stands for a GPU."""
    for device, expected in (('cpu', on_cpu), ('meta', on_gpu)):
        model = torch.nn.Module()
        model.backbone = ResNet(18).to(device)
        ChannelsLastHook(devices).before_run(SimpleNamespace(model=model))
        assert model.backbone.conv1.weight.is_contiguous(
            memory_format=torch.channels_last) == expected


def test_channels_last_of_unknown_devices():
    with pytest.raises(ValueError, match="devices='gpu' is not valid: one of"):
        ChannelsLastHook(devices='gpu')


def test_channels_last_leaves_operators_of_mmcv(caplog):
    """Deformable convolutions raise an error for such maps."""
    model = torch.nn.Module()
    model.backbone = ResNet(
        50, base_channels=8, stem_channels=8,
        dcn=dict(type='DCN', deform_groups=1),
        stage_with_dcn=(False, False, False, True))
    run = SimpleNamespace(model=model, logger=logging.getLogger())
    with caplog.at_level(logging.INFO):
        ChannelsLastHook().before_run(run)
    assert 'ChannelsLastHook: backbone or neck of Module take' in caplog.text
    assert model.backbone.conv1.weight.is_contiguous()
    model.backbone(torch.randn(1, 3, 128, 128))


def test_channels_last_without_a_backbone():
    """A semi-supervised detector has two inside."""
    assert not use_channels_last(torch.nn.Linear(2, 2))


def test_channels_last_twice():
    """A runner that runs again."""
    model = torch.nn.Module()
    model.backbone = ResNet(18)
    for _ in range(2):
        ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert len(model.backbone._forward_hooks) == 1


@MODEL_WRAPPERS.register_module()
class MMDataParallelStandIn(torch.nn.Module):
    """mmengine takes it for a wrapped (distributed) model."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_compile_hook_compiles_once_for_all_shapes(detector, monkeypatch):
    """Backbone and neck, without a break in them; keys stay. Without code
    generation, which takes longer. Batches of 2: PyTorch treats a single map
    of up to 20480 numbers in another way."""
    monkeypatch.setattr(compile_hook, 'compiler_error', lambda device: None)
    keys = list(detector.state_dict())
    counter = CompileCounter()
    run = SimpleNamespace(model=detector, logger=logging.getLogger())
    CompileHook(backend=counter, fullgraph=True).before_run(run)
    shapes = [(96 + 8 * i, 128 + 4 * i) for i in range(10)]
    for shape in shapes:
        with torch.no_grad():
            detector.neck(detector.backbone(torch.randn(2, 3, *shape)))
    assert counter.frame_count == 2  # two parts
    assert list(detector.state_dict()) == keys


def test_compile_hook_without_a_compiler(detector, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise RuntimeError('no C++ compiler')

    monkeypatch.setattr(torch, 'compile', fails)
    run = SimpleNamespace(model=detector, logger=logging.getLogger())
    CompileHook().before_run(run)
    assert 'runs without it: no C++ compiler' in caplog.text
    assert detector.backbone._compiled_call_impl is None


def test_compile_hook_checks_parts(detector):
    run = SimpleNamespace(model=detector, logger=logging.getLogger())
    with pytest.raises(ValueError, match="has no 'backbon'"):
        CompileHook(parts=['backbon']).before_run(run)


def test_deploy_hook_needs_our_backbone():
    model = torch.nn.Module()
    model.backbone = ResNet(18)
    with pytest.raises(ValueError, match='ResNet has no switch_to_deploy'):
        DeployHook().before_test_epoch(SimpleNamespace(model=model))


def test_detectors_inside_a_tracker(monkeypatch):
    """The tracker itself has no backbone; its ReID's is not of this
    package."""
    tracker = torch.nn.Module()
    for name, backbone in (('detector', SCConvResNet(18, base_channels=16)),
                           ('reid', ResNet(18))):
        tracker.add_module(name, torch.nn.Module())
        tracker.get_submodule(name).backbone = backbone
    inside = tracker.detector.backbone
    run = SimpleNamespace(
        model=tracker, logger=logging.getLogger(), test_dataloader=[1])
    monkeypatch.setattr(compile_hook, 'compiler_error', lambda device: None)
    CompileHook(backend='eager').before_run(run)
    assert inside._compiled_call_impl is not None
    ChannelsLastHook().before_run(run)
    assert inside.conv1.weight.is_contiguous(
        memory_format=torch.channels_last)
    hook = DeployHook()
    hook.before_test_epoch(run)
    assert inside.deployed
    hook.after_test_iter(run, 0)
    assert not tracker.detector.backbone.deployed


def test_necks_and_heads_are_deployed():
    """All that was swapped, and nothing else, is restored afterwards."""
    model = torch.nn.Module()
    model.backbone = ResNet(18)
    for name, cfg in (
            ('neck', dict(type='FPN', in_channels=[16, 32], out_channels=32,
                          num_outs=2, norm_cfg=dict(type='BN'))),
            ('bbox_head', dict(type='RetinaHead', num_classes=2,
                               in_channels=32, feat_channels=32))):
        model.add_module(name, MODELS.build(dict(type='Swapped', module=cfg)))
    model.eval()
    maps = [torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)]
    backbone, neck, head = model.children()
    with torch.no_grad():
        expected = head(neck(maps))
    run = SimpleNamespace(model=model, test_dataloader=[1])
    hook = DeployHook()
    hook.before_test_epoch(run)
    assert model.neck.deployed and model.bbox_head.deployed
    assert any(isinstance(m, DeployedSCConv) for m in model.neck.modules())
    with torch.no_grad():
        torch.testing.assert_close(model.bbox_head(model.neck(maps)),
                                   expected, rtol=1e-4, atol=1e-4)
    hook.after_test_iter(run, 0)
    assert not model.neck.deployed and not model.bbox_head.deployed
    assert model.backbone is backbone


class Seen(BaseModel):
    """Notes the form that its backbone is called in."""

    def __init__(self):
        super().__init__()
        self.backbone = SCConvResNet(18, base_channels=16)
        self.forms = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.forms.append(sorted(self.backbone.state_dict()))
        return self.backbone(torch.stack(inputs))[-1].mean((1, 2, 3))


class Images(torch.utils.data.Dataset):

    def __len__(self):
        return 3

    def __getitem__(self, idx):
        return dict(inputs=torch.full((3, 64, 64), float(idx)))


def test_deployed_with_moving_averages(tmp_path):
    """EMAHook exchanges parameters before a test, and back after it."""
    model = Seen()
    before = copy.deepcopy(model.backbone.state_dict())
    Runner(
        model,
        str(tmp_path),
        test_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=Images(),
            collate_fn=dict(type='pseudo_collate')),
        test_cfg=dict(),
        test_evaluator=[Rising()],
        custom_hooks=[dict(type='EMAHook', update_buffers=True),
                      dict(type='mmdet.DeployHook')],
        log_level='ERROR',
        experiment_name='moving').test()
    forms = model.forms
    assert len(forms) == 3 and forms[0] == forms[1] == forms[2]
    assert forms[0] != sorted(before)
    after = model.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
