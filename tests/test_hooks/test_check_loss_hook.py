from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample

from mmdet_scconv.hooks import CheckLossHook


@pytest.fixture
def runner():
    return SimpleNamespace(
        iter=41,
        epoch=2,
        optim_wrapper=SimpleNamespace(get_lr=lambda: dict(lr=[0.02, 0.002])))


BATCH = dict(data_samples=[
    DetDataSample(metainfo=dict(img_path=f'{name}.jpg')) for name in 'ab'
])


@pytest.mark.parametrize('bad', ['nan', 'inf'])
def test_names_iteration_loss_and_images(runner, bad):
    outputs = dict(
        loss=torch.tensor(float(bad)),
        loss_cls=torch.tensor(1.),
        loss_bbox=torch.tensor(float(bad)))
    with pytest.raises(FloatingPointError) as raised:
        CheckLossHook().after_train_iter(runner, 6, BATCH, outputs)
    message = str(raised.value)
    for part in ('iteration 42', 'epoch 3, batch 7', f'loss={bad}',
                 f'loss_bbox={bad}', 'a.jpg', 'b.jpg', '0.02'):
        assert part in message
    assert 'loss_cls' not in message


def test_a_finite_loss_passes(runner):
    CheckLossHook().after_train_iter(runner, 6, BATCH,
                                     dict(loss=torch.tensor(1e30)))
