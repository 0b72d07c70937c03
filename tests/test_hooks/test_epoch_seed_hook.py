"""A resumed run draws the numbers that it would have drawn."""
import torch
from mmengine.hooks import Hook
from toy import toy_runner


class Draw(Hook):
    """Notes a random number each epoch."""

    def __init__(self):
        self.numbers = {}

    def after_train_epoch(self, runner):
        self.numbers[runner.epoch] = torch.rand(1).item()


def draw(work_dir, resume_from=None, **hooks):
    numbers = Draw()
    runner = toy_runner(work_dir, hooks=[numbers], **hooks)
    if resume_from:
        runner._resume, runner._load_from = True, resume_from
    runner.train()
    return numbers.numbers


def test_resumed_epochs_draw_the_same(tmp_path):
    hook = dict(epoch_seed=dict(type='EpochSeedHook'))
    whole = draw(tmp_path, **hook)
    resumed = draw(tmp_path, str(tmp_path / 'epoch_1.pth'), **hook)
    assert len(set(whole.values())) == 3
    assert resumed == {epoch: whole[epoch] for epoch in (1, 2)}
