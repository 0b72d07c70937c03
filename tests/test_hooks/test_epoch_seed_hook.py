"""A resumed run draws the same random numbers as an uninterrupted one."""
import logging

import pytest
import torch
from mmengine.hooks import Hook
from toy import toy_runner


class Draw(Hook):
    """Notes what each epoch draws, in the loader and in the training."""

    def __init__(self, by_epoch):
        self.numbers = {}
        self.by_epoch = by_epoch

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        step = runner.epoch if self.by_epoch else runner.iter
        drawn = self.numbers.setdefault(step, [])
        drawn += [x.tolist() for x in data_batch['inputs']]
        drawn.append(torch.rand(1).item())


def draw(work_dir, workers, resume_from=None, **options):
    numbers = Draw(by_epoch='max_iters' not in options)
    runner = toy_runner(
        work_dir,
        hooks=[numbers],
        workers=workers,
        epoch_seed=dict(type='mmdet.EpochSeedHook'),
        **options)
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


ITERATIONS = dict(
    max_iters=7, checkpoint=dict(type='CheckpointHook', by_epoch=False,
                                 interval=1))


@pytest.mark.parametrize('saved', [3, 4])
def test_resumed_iterations_draw_the_same(tmp_path, saved):
    """Iterations 2, 4 and 6 are followed by a validation; an epoch ends
    after each other one."""
    whole = draw(tmp_path, 0, **ITERATIONS)
    resumed = draw(tmp_path, 0, str(tmp_path / f'iter_{saved}.pth'),
                   **ITERATIONS)
    assert len({str(drawn) for drawn in whole.values()}) == 7
    assert resumed == {i: whole[i] for i in range(saved, 7)}


def test_workers_of_resumed_iterations_are_warned_of(tmp_path, monkeypatch):
    draw(tmp_path, 0, **ITERATIONS)
    said = []
    monkeypatch.setattr(logging.Logger, 'warning',
                        lambda self, text, *args: said.append(text))
    draw(tmp_path, 1, str(tmp_path / 'iter_6.pth'), **ITERATIONS)
    assert any('with train_dataloader.num_workers=0' in text for text in said)
