"""Writes the loss of each global batch: the mean over the processes."""
import json
import os.path as osp

from mmengine.dist import all_reduce, master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class LossLog(Hook):

    def before_train(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, 'mean')
        self.losses.append(loss.item())

    @master_only
    def after_train(self, runner):
        with open(osp.join(runner.work_dir, 'losses.json'), 'w') as f:
            json.dump(self.losses, f)
