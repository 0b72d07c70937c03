from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.hooks import Hook
from toy import toy_runner

from mmdet_scconv.hooks import CheckLossHook
from mmdet_scconv.hooks.check_loss_hook import image_paths


@pytest.fixture
def runner():
    return SimpleNamespace(
        iter=41,
        epoch=2,
        optim_wrapper=SimpleNamespace(get_lr=lambda: dict(lr=[0.02, 0.002])))


def sample(name):
    return DetDataSample(metainfo=dict(img_path=f'{name}.jpg'))


BATCH = dict(data_samples=[sample('a'), sample('b')])


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


@pytest.mark.parametrize('batch,paths', [
    (BATCH, ['a.jpg', 'b.jpg']),
    (dict(data_samples=dict(  # semi-supervised
        sup=[None, sample('a')],
        unsup_teacher=[sample('b'), None],
        unsup_student=[sample('b'), None])), ['a.jpg', 'b.jpg']),
    (dict(data_samples=[
        TrackDataSample(video_data_samples=[sample('a'), sample('b')])
    ]), ['a.jpg', 'b.jpg']),
    (dict(data_samples=[DetDataSample()]), []),
    (dict(inputs=[]), []),
])
def test_image_paths(batch, paths):
    assert image_paths(batch) == paths


class Spoil(Hook):
    """Make the loss infinite in the second epoch, as a too high learning rate
    does."""
    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            runner.model.linear.weight.data.fill_(float('nan'))


def test_stops_the_training_before_it_saves(tmp_path):
    runner = toy_runner(
        tmp_path,
        hooks=[Spoil()],
        check_loss=dict(type='mmdet.CheckLossHook'),
        checkpoint=dict(type='mmdet.SafeCheckpointHook', interval=1))
    with pytest.raises(FloatingPointError, match='iteration 3 .*loss=nan'):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
