"""Counting, timing and drawing leave the model that they are given as it
is."""
import copy
from functools import partial

import numpy as np
import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_scconv.benchmark.cases import Case
from mmdet_scconv.benchmark.models import build
from mmdet_scconv.benchmark.speed import measure_speed
from mmdet_scconv.paper.complexity import TensorMode, count, count_parts
from mmdet_scconv.visualization.feature_maps import (
    sru_maps,
    srus_of,
    stage_output,
)
from mmdet_scconv.visualization.models import Picture
from mmdet_scconv.visualization.predictions import build_dataset, predict
from mmdet_scconv.visualization.redundancy import measure

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
PICTURE = Picture('a.jpg', np.zeros((64, 64, 3), np.uint8),
                  torch.rand(1, 3, 64, 64))


@pytest.fixture(scope='module')
def cfg(data_home):
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = f'{data_home}/data/digits/'
    return cfg


@pytest.fixture(scope='module')
def dataset(cfg):
    dataset = build_dataset(cfg)
    return torch.utils.data.Subset(dataset, range(2))


@pytest.fixture
def model(cfg):
    """In training mode, in which a forward pass would change its statistics.
    """
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.train()
    return model


def state(model):
    """All that a use may change in a model."""
    modules = {
        name: (module.training, type(module),
               len(module._forward_hooks) + len(module._forward_pre_hooks),
               getattr(module, 'implementation', None))
        for name, module in model.named_modules()
    }
    return modules, [
        (name, value.device, value.requires_grad, value.grad)
        for name, value in model.named_parameters()
    ]


def all_stages(use):
    return lambda model, *_: [use(model, stage) for stage in (1, 2)]


@pytest.mark.parametrize('use', [
    lambda model, cfg, dataset: count(TensorMode(model), (64, 64)),
    lambda model, cfg, dataset: count(model.backbone, (64, 64), device='meta'),
    lambda model, cfg, dataset: measure('a', model, [PICTURE]),
    lambda model, cfg, dataset: measure_speed(model, dataset, 1),
    lambda model, cfg, dataset: predict(model, cfg, dataset),
    all_stages(lambda model, stage: stage_output(model, PICTURE, stage)),
    all_stages(lambda model, stage: stage_output(
        model, PICTURE, stage, bypass_sru=True)),
    all_stages(lambda model, stage: sru_maps(
        model, PICTURE, next(iter(srus_of(model, stage))))),
], ids=['count', 'count-meta', 'redundancy', 'speed', 'predict', 'stage',
        'stage-bypassed', 'sru'])
def test_model(use, model, cfg, dataset):
    before, weights = state(model), copy.deepcopy(model.state_dict())
    use(model, cfg, dataset)
    assert state(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize('use', [
    lambda cfg: list(count_parts(cfg, (64, 64))),
    *(partial(lambda form, cfg: build(cfg, form, Case(shape=(64, 64))), form)
      for form in ('as-is', 'textbook', 'deploy')),
], ids=['count', 'as-is', 'textbook', 'deploy'])
def test_config(use, cfg):
    """The config is unchanged, and each model is a new one."""
    model = copy.deepcopy(cfg.model)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint='no.pth')
    before = copy.deepcopy(model)
    use(model)
    assert model == before
