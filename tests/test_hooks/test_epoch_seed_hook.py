"""A resumed run draws the numbers that it would have drawn."""
import pytest
import torch
from mmengine.hooks import Hook
from toy import toy_runner


class Draw(Hook):
    """Notes what each epoch draws, in the loader and in the training."""

    def __init__(self):
        self.numbers = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        drawn = self.numbers.setdefault(runner.epoch, [])
        drawn += [x.tolist() for x in data_batch['inputs']]
        drawn.append(torch.rand(1).item())


def draw(work_dir, workers, resume_from=None):
    numbers = Draw()
    runner = toy_runner(
        work_dir,
        hooks=[numbers],
        workers=workers,
        epoch_seed=dict(type='EpochSeedHook'))
    if resume_from:
        runner._resume, runner._load_from = True, resume_from
    runner.train()
    return numbers.numbers


@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_epochs_draw_the_same(tmp_path, workers):
    whole = draw(tmp_path, workers)
    resumed = draw(tmp_path, workers, str(tmp_path / 'epoch_1.pth'))
    assert whole[0] != whole[1] != whole[2]
    assert resumed == {epoch: whole[epoch] for epoch in (1, 2)}
