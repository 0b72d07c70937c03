"""Run a config at a tiny size: two training steps, validation, test.

A script of its own, so that a test can run it as a user would: in a fresh
process, from a folder outside the repository. Prints the metrics as JSON.

Usage: run_config.py CONFIG
"""
import json
import sys

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

SCALE = (96, 64)


def shrink(node):
    """Resize images to ``SCALE``, load them in the main process, use few
    proposals, and keep all boxes: untrained, none may pass a score threshold.
    """
    if isinstance(node, ConfigDict):
        if node.get('type') in ('Resize', 'RandomResize'):
            node.scale = SCALE
        for key in ('img_scale', 'crop_size'):  # of a mosaic, of what it gets
            if key in node:
                node[key] = SCALE
        if node.get('type') == 'Pad' and 'size' in node:
            node.size = SCALE
        if node.get('type') == 'RandomAffine':
            node.border = (-SCALE[0] // 2, -SCALE[1] // 2)
        if 'nms_pre' in node and 'score_thr' not in node:
            node.max_per_img = 100
        if 'score_thr' in node:
            node.score_thr = -1.  # a sigmoid may be 0 in float32
            if 'min_bbox_size' in node:  # RTMDet's may all be negative
                node.min_bbox_size = -1
        if 'num_workers' in node:
            node.num_workers = 0
            node.persistent_workers = False
        for value in node.values():
            shrink(value)
    elif isinstance(node, list):
        for value in node:
            shrink(value)


def without_fit(backbone):
    """Let swapped convolutions start from random weights: a fit of a whole
    ResNet-50 takes half a minute."""
    # not above: a fresh process imports what the config says
    from mmdet_scconv.backbones import SwappedModule
    cls = MODELS.get(backbone.type)
    if isinstance(cls, type) and issubclass(cls, SwappedModule):
        backbone.update(swapped_init='random', freeze_without_weights=True)


def run(config, fit=True):
    """The metrics of a config's test."""
    cfg = Config.fromfile(config)
    if not fit:
        without_fit(cfg.model.backbone)
    for key in ('model', 'train_dataloader', 'val_dataloader',
                'test_dataloader'):
        shrink(cfg[key])
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.log_processor = dict(by_epoch=False)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.train_dataloader.batch_size = 2
    cfg.param_scheduler = None
    # without the warm-up, two full steps ruin random weights
    cfg.optim_wrapper.optimizer.lr = 1e-5
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, save_optimizer=False)
    cfg.work_dir = 'work_dir'
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss')._log_history
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses), losses
    return runner.test()


if __name__ == '__main__':
    print(json.dumps(run(*sys.argv[1:])))
