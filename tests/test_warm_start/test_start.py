"""A training from a dense checkpoint starts with fitted convolutions."""
import copy
import itertools
import logging

import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmdet_scconv.hooks import WarmStartHook
from mmdet_scconv.warm_start import regression, start

SMALL = dict(depth=18, base_channels=16, zero_init_residual=False)
SIZE = 64
RUNS = itertools.count()  # MMEngine keeps a message hub a name


@pytest.fixture(scope='module')
def dense_file(tmp_path_factory):
    """A dense network's weights, with statistics of images."""
    torch.manual_seed(0)
    dense = ResNet(**SMALL)
    dense.init_weights()
    dense.norm_eval = False
    dense.train()
    with torch.no_grad():
        for _ in range(10):
            dense(torch.randn(4, 3, SIZE, SIZE))
    path = tmp_path_factory.mktemp('dense') / 'dense.pth'
    torch.save(dense.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """A cache of its own, and few small images."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    made = start.generated_images
    monkeypatch.setattr(
        start, 'generated_images', lambda dense: made(dense, 16, SIZE))


@pytest.fixture
def no_fit(monkeypatch):
    def fail(*args):
        raise AssertionError('fitted')

    return lambda: monkeypatch.setattr(start, 'fit', fail)


@pytest.fixture
def log():
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append((record.levelno, record.getMessage()))

    logger = MMLogger.get_instance('warm_start_test')
    logger.handlers = [Keep()]
    return lines


@pytest.fixture
def distributed(tmp_path):
    """This process alone, as one of a distributed training."""
    torch.distributed.init_process_group(
        'gloo', f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_regression_with_synchronised_norms(dense_file, monkeypatch,
                                            distributed):
    """The fit is on the CPU, where SyncBatchNorm cannot be trained."""
    monkeypatch.setattr(regression, 'STEPS', 2)
    network = build(dense_file, norm_cfg=dict(type='SyncBN'),
                    conv2_cfg=dict(units='C+S'))
    network.train()
    assert not network.to_be_fitted()
    assert isinstance(network.layer1[0].conv2.cru.bn1, nn.SyncBatchNorm)


def test_a_file_without_one_of_the_dense_convolutions(
        dense_file, tmp_path, log, no_fit):
    """Nothing is fitted, and the log says so."""
    no_fit()
    weights = torch.load(dense_file)
    del weights['layer3.1.conv2.weight']
    torch.save(weights, tmp_path / 'part.pth')
    network = build(tmp_path / 'part.pth', freeze_without_weights=True)
    network.train()
    (_, line), = [pair for pair in log if pair[0] == logging.WARNING
                  and 'start from random weights' in pair[1]]
    assert '8 swapped convolutions (layer1.0.conv2 ...) start' in line
    assert 'those of layer3.1.conv2 (1 of 8) are not known' in line


def test_a_file_in_which_a_part_is_swapped(dense_file, tmp_path, log, no_fit):
    """What it has of swapped convolutions stays."""
    no_fit()
    part = build(dense_file, stages_with_swap=(False, False, False, True))
    torch.save(part.state_dict(), tmp_path / 'part.pth')
    network = build(tmp_path / 'part.pth', freeze_without_weights=True)
    network.train()
    assert any('6 swapped convolutions (layer1.0.conv2 ...) start from random '
               'weights, as a checkpoint has filled others' in line
               for _, line in log)
    for name, value in part.state_dict().items():
        if name.startswith('layer4.'):
            torch.testing.assert_close(network.state_dict()[name], value)


def build(checkpoint, **options):
    torch.manual_seed(1)
    network = MODELS.build(dict(
        type='SCConvResNet', frozen_stages=1, norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)),
        **SMALL, **options))
    network.init_weights()
    return network


def swapped(network):
    return torch.cat([
        value.flatten() for key, value in network.state_dict().items()
        if '.conv2.' in key and value.is_floating_point()])


def variance_missing(network, dense_file):
    dense = ResNet(**SMALL)
    dense.load_state_dict(torch.load(dense_file))
    dense.eval()
    x = start.generated_images(dense)[:8] + 0.1
    with torch.no_grad():
        wanted = dense(x)[-1]
        got = copy.deepcopy(network).eval()(x)[-1]
    return float((wanted - got).var() / wanted.var())


def test_the_fit_is_at_the_start_of_the_training(dense_file, log):
    """Not before: a checkpoint may be loaded in between."""
    network = build(dense_file)
    before = swapped(network)
    bad = variance_missing(network, dense_file)
    assert torch.equal(before, swapped(network))
    assert network.to_be_fitted()
    network.train()
    assert variance_missing(network, dense_file) < 0.5 * bad
    assert not network.to_be_fitted()
    assert not network._dense_weights  # not kept in memory
    text = '\n'.join(line for _, line in log)
    assert '8 swapped convolutions fitted to the dense ones' in text
    assert '16 generated images' in text
    warnings = [line for level, line in log if level == logging.WARNING]
    assert sum('SCConvRuntimeHook' in line for line in warnings) == 1
    assert 'layer3: 2 layers fitted (closed form), unexplained' in text
    fitted = swapped(network)
    network.train()
    assert torch.equal(fitted, swapped(network))


@pytest.mark.parametrize('backbone', ['SCConvResNet', 'TiedConvResNet'])
def test_untrained_residual_branches(backbone, tmp_path):
    """Their last norm has zero weights, so the blocks' outputs do not depend
    on them."""
    cfg = dict(depth=18, base_channels=16)
    dense = ResNet(**cfg)
    dense.init_weights()
    assert not dense.layer1[0].bn2.weight.any()
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')
    network = MODELS.build(dict(cfg, type=backbone, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'dense.pth'))))
    network.init_weights()
    network.train()
    assert all(value.isfinite().all()
               for value in network.state_dict().values())


def test_frozen_stages_and_norms_are_filled(dense_file):
    network = build(dense_file).train()
    assert network.frozen_without_weights() == ''
    assert not network.layer1[0].conv2.cru.gwc.weight.requires_grad


def test_bit_equal(dense_file, tmp_path, monkeypatch):
    first = build(dense_file).train()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
    second = build(dense_file).train()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_fitted_once_on_a_machine(dense_file, no_fit, log):
    first = build(dense_file).train()
    no_fit()
    second = build(dense_file).train()
    assert torch.equal(swapped(first), swapped(second))
    assert sum('taken from the cache' in line for _, line in log) == 1
    for changed in (dict(conv2_cfg=dict(alpha=0.25)),
                    dict(conv2_cfg=dict(gate_threshold=0.3)),
                    dict(stages_with_swap=(True, True, True, False))):
        with pytest.raises(AssertionError, match='fitted'):
            build(dense_file, **changed).train()


def test_other_weights_are_fitted_anew(dense_file, tmp_path, no_fit):
    build(dense_file).train()
    weights = torch.load(dense_file)
    weights['layer3.0.conv2.weight'] += 1e-3
    torch.save(weights, tmp_path / 'other.pth')
    no_fit()
    with pytest.raises(AssertionError, match='fitted'):
        build(tmp_path / 'other.pth').train()


def test_no_fit_where_a_checkpoint_is_loaded_after(dense_file, tmp_path,
                                                   no_fit):
    weights = build(dense_file).train().state_dict()
    no_fit()
    network = build(dense_file)
    nn.ModuleDict(dict(backbone=network)).load_state_dict(
        {f'backbone.{key}': value + 1 for key, value in weights.items()})
    network.train()
    assert torch.equal(swapped(network),
                       torch.cat([(value + 1).flatten()
                                  for key, value in weights.items()
                                  if '.conv2.' in key
                                  and value.is_floating_point()]))


def test_a_dense_checkpoint_loaded_after_is_fitted_to(dense_file):
    """A dense detector's, by load_from."""
    weights = {f'backbone.{key}': value * 1.1 if 'conv2' in key else value
               for key, value in torch.load(dense_file).items()}
    network = build(dense_file)
    nn.ModuleDict(dict(backbone=network)).load_state_dict(
        weights, strict=False)
    dense = network.dense_network()
    assert torch.equal(dense.layer2[0].conv2.weight,
                       weights['backbone.layer2.0.conv2.weight'])


def test_random(dense_file, no_fit):
    no_fit()
    network = build(dense_file, swapped_init='random')
    with pytest.raises(ValueError, match='FROZEN WITHOUT WEIGHTS'):
        network.train()
    with pytest.raises(ValueError, match="swapped_init='none'.*'fit' or"):
        build(dense_file, swapped_init='none')


def test_a_network_without_a_checkpoint_is_not_fitted(no_fit):
    no_fit()
    network = MODELS.build(dict(
        type='SCConvResNet', frozen_stages=-1, norm_eval=False, **SMALL))
    network.init_weights()
    network.train()


@pytest.mark.parametrize('backbone,options', [
    ('SPConvResNet', {}), ('SlimConvResNet', {}), ('GhostResNet', {}),
    ('TiedConvResNet', {}), ('OctConvResNet', {}),
    ('SCConvResNeXt', dict(groups=4, base_width=4)),
    ('SCConvResNet', dict(deep_stem=True, avg_down=True)),
])
def test_the_dense_network_of(backbone, options, tmp_path):
    """The same as MMDetection's with the same file, whatever changed its
    width or its norms."""
    cfg = dict(depth=50, base_channels=16, **options)
    kind = 'ResNeXt' if 'ResNeXt' in backbone else 'ResNet'
    dense = MODELS.build(dict(cfg, type=kind))
    dense.init_weights()
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')
    network = MODELS.build(dict(
        cfg, type=backbone, init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'dense.pth'))))
    network.init_weights()
    assert network.to_be_fitted() == (backbone != 'SlimConvResNet')
    found = network.dense_network().state_dict()
    assert set(found) == set(dense.state_dict())
    for name, value in dense.state_dict().items():
        assert torch.equal(found[name], value), name


def test_any_module_of_mmdetection(tmp_path):
    """'Swapped': the same start."""
    cfg = dict(type='Darknet', depth=53, out_indices=(3, ))
    torch.manual_seed(0)
    dense = MODELS.build(cfg)
    dense.init_weights()
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')
    network = MODELS.build(dict(
        type='Swapped', module=dict(cfg, init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'dense.pth'))),
        select=dict(include='conv_res_block1')))
    network.init_weights()
    assert network.to_be_fitted()
    network.train()
    assert not network.to_be_fitted()


def neck():
    return dict(type='FPN', in_channels=[16, 32], out_channels=16, num_outs=2)


@pytest.mark.parametrize('dense_cfg,cfg,reason', [
    (neck(), dict(type='Swapped', module=neck()), 'inputs are images'),
    (dict(type='ResNet', depth=50, base_channels=16),
     dict(type='SlimConvResNet', depth=50, base_channels=16,
          norm_eval=False, frozen_stages=-1),
     'layer1.0.conv3.weight has another shape'),
])
def test_the_log_says_why_nothing_is_fitted(dense_cfg, cfg, reason, no_fit,
                                            log):
    """A dense detector's weights, for a swapped neck or another width."""
    no_fit()
    network = MODELS.build(cfg)
    network.init_weights()
    network._dense_weights.clear()
    state = MODELS.build(dense_cfg).state_dict()
    load_state_dict(network, state)
    assert not network.to_be_fitted()
    network.train()
    warnings = [line for level, line in log if level == logging.WARNING]
    assert any('start from random weights' in line and reason in line
               for line in warnings)


@pytest.mark.parametrize('factor', [1., 57., 1 / 57])
def test_generated_images_have_the_scale_of_the_checkpoint(dense_file,
                                                           factor):
    """Caffe's weights get images that are not divided by anything."""
    dense = ResNet(**SMALL)
    dense.load_state_dict(torch.load(dense_file))
    dense.conv1.weight.data /= factor
    first = start.generated_images(dense)
    dense.conv1.weight.data *= factor
    assert torch.allclose(first, factor * start.generated_images(dense),
                          rtol=1e-3)


def test_a_full_disk_only_disables_the_cache(dense_file, monkeypatch, log):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmdet_scconv.warm_start.cache.store_fitted', full)
    network = build(dense_file).train()
    assert network.frozen_without_weights() == ''
    warnings = [line for level, line in log if level == logging.WARNING]
    assert any('No space left on device' in line for line in warnings)


def test_an_interrupted_fit_leaves_nothing(dense_file, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(start, 'fit_network', interrupt)
        network = build(dense_file)
        before = swapped(network)
        with pytest.raises(KeyboardInterrupt):
            network.train()
    assert torch.equal(before, swapped(network))
    assert not list((tmp_path / 'cache').rglob('*.pth'))
    network.train()
    assert not network.to_be_fitted()


def test_a_checkpoint_that_does_not_fit(tmp_path, no_fit):
    """Of another width: an error before anything is fitted."""
    no_fit()
    torch.save(ResNet(18, base_channels=8).state_dict(),
               tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth does not fit SCConvRes'
                       r'Net: .*conv1.weight \(8, 3, 7, 7\) in the file'):
        build(tmp_path / 'other.pth')
    assert not list((tmp_path / 'cache').rglob('*'))


class Pictures(torch.utils.data.Dataset):
    """With a random transform."""

    def __init__(self, height=SIZE, width=96):
        self.shape = (3, height, width)

    def __len__(self):
        return 40

    def __getitem__(self, i):
        picture = np.random.default_rng(i).integers(0, 256, self.shape)
        if np.random.rand() < 0.5:
            picture = picture[..., ::-1]
        return dict(inputs=torch.from_numpy(picture.astype(np.uint8)))


class Detector(BaseModel):
    def __init__(self, backbone):
        super().__init__(dict(
            type='ImgDataPreprocessor', mean=[0.] * 3, std=[255.] * 3,
            bgr_to_rgb=True))
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(inputs)[-1].square().mean())


def train(work_dir, dense_file, hooks, dataset=None, **options):
    """One iteration; the runner, and the swapped weights it began with."""
    seen = []

    class See(WarmStartHook):
        priority = 'VERY_LOW'

        def before_train(self, runner):
            seen.append(swapped(runner.model.backbone))

    runner = Runner(
        Detector(dict(
            type='SCConvResNet', frozen_stages=1, norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint=str(dense_file)),
            **SMALL)),
        str(work_dir),
        train_dataloader=dict(
            batch_size=2, num_workers=0, dataset=dataset or Pictures(),
            sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)),
        custom_hooks=[*hooks, See()],
        randomness=dict(seed=0),
        experiment_name=f'warm_start_{next(RUNS)}',
        log_level='WARNING', **options)
    runner.train()
    return runner, seen[0]


HOOK = dict(type='WarmStartHook', num_images=16, size=SIZE)
MMDET = dict(default_scope='mmdet')


def losses(runner):
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


def test_hook_takes_the_training_set(dense_file, tmp_path, monkeypatch):
    taken = []
    fit = start.fit
    monkeypatch.setattr(start, 'fit', lambda network, dense, batch: (
        taken.append(batch), fit(network, dense, batch))[1])
    first, weights = train(tmp_path / 'a', dense_file, [HOOK], **MMDET)
    batch, = taken
    assert batch.shape == (16, 3, SIZE, SIZE)
    # as the preprocessor makes them
    assert 0 <= batch.min() < 0.01 and 0.99 < batch.max() <= 1
    # in time for hooks that look at the model before the training
    assert torch.equal(weights, swapped(first.model.backbone))
    # the second time from the cache, and the same training
    second, again = train(tmp_path / 'b', dense_file, [HOOK], **MMDET)
    assert len(taken) == 1
    assert torch.equal(weights, again)
    assert losses(first) == losses(second)


def test_without_the_hook_images_are_generated(dense_file, tmp_path):
    """Also without mmdet's scope."""
    runner, before = train(tmp_path, dense_file, [])
    assert not torch.equal(before, swapped(runner.model.backbone))
    assert runner.model.backbone.frozen_without_weights() == ''


@pytest.mark.parametrize('height,width,count', [(32, 48, 40), (128, 200, 16)])
def test_small_images_are_more_images(height, width, count, dense_file,
                                      tmp_path, monkeypatch):
    """As many as have the area asked for, if there are so many."""
    shapes = []
    fit = start.fit
    monkeypatch.setattr(start, 'fit', lambda network, dense, batch: (
        shapes.append(batch.shape), fit(network, dense, batch))[1])
    train(tmp_path, dense_file, [HOOK], Pictures(height, width), **MMDET)
    side = min(height, SIZE)
    assert shapes == [(count, 3, side, side)]


def test_no_fit_with_load_from_and_resume(dense_file, tmp_path, no_fit):
    runner, _ = train(tmp_path / 'a', dense_file, [HOOK], **MMDET)
    runner.save_checkpoint(str(tmp_path), 'whole.pth')
    no_fit()
    whole = str(tmp_path / 'whole.pth')
    train(tmp_path / 'b', dense_file, [HOOK], **MMDET, load_from=whole)
    train(tmp_path / 'c', dense_file, [HOOK], **MMDET, load_from=whole,
          resume=True)
