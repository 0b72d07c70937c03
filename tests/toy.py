"""A training of milliseconds, with MMEngine's own loops and hooks."""
import itertools

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner

RUNS = itertools.count()  # MMEngine keeps a logger a name


class Toy(BaseModel):

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = self.linear(torch.stack(inputs))
        return dict(loss=outputs.square().mean()) if mode == 'loss' else [1]


class Rising(BaseMetric):
    """Better each time."""
    default_prefix = 'toy'
    calls = 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        self.calls += 1
        return dict(acc=float(self.calls))


class RandomInputs(torch.utils.data.Dataset):
    """Other numbers each time, as from a random augmentation."""

    def __len__(self):
        return 4

    def __getitem__(self, idx):
        return dict(inputs=torch.from_numpy(np.random.rand(2)).float())


def toy_runner(work_dir, max_epochs=3, hooks=(), workers=0, max_iters=None,
               randomness=None, loader=None, **default_hooks):
    """``max_iters``: iterations count, and each other one is validated.
    ``loader``: settings of the training's."""
    by_epoch = dict(by_epoch=True, max_epochs=max_epochs)
    by_iteration = dict(by_epoch=False, max_iters=max_iters, val_interval=2)
    plain = dict(
        batch_size=2,
        num_workers=workers,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=RandomInputs(),
        collate_fn=dict(type='pseudo_collate'))
    endless = dict(plain, sampler=dict(type='InfiniteSampler'))
    return Runner(
        Toy(),
        str(work_dir),
        train_dataloader=dict(
            plain if max_iters is None else endless, **(loader or {})),
        val_dataloader=plain,
        train_cfg=by_epoch if max_iters is None else by_iteration,
        val_cfg=dict(),
        val_evaluator=[Rising()],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=default_hooks,
        custom_hooks=list(hooks),
        randomness=randomness or dict(seed=0),
        log_level='ERROR',
        experiment_name=f'toy_{next(RUNS)}')
