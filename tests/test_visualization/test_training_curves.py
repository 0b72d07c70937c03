"""Curves from MMEngine's log."""
import json

import pytest

from mmdet_scconv.visualization.training_curves import (
    curves_figure,
    read_curves,
)


def write_log(work_dir, stamp, entries):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(
        ''.join(json.dumps(entry) + '\n' for entry in entries))


def training(step, loss):
    return dict(loss=loss, loss_cls=loss / 2, lr=0.1, epoch=1 + step // 10,
                iter=step, step=step, time=0.1)


@pytest.fixture
def work_dir(tmp_path):
    """Resumed after step 10; the first attempt had come to step 15."""
    write_log(tmp_path, '20260101_000000', [
        training(5, 4.), training(10, 3.),
        {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_l': -1.0, 'step': 1},
        training(15, 9.)])
    write_log(tmp_path, '20260102_000000', [
        training(15, 2.), training(20, 1.),
        {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_l': -1.0, 'step': 2}])
    return tmp_path


def test_attempts_are_joined(work_dir):
    curves = read_curves(str(work_dir))
    assert curves.training['loss'] == [(5, 4.), (10, 3.), (15, 2.), (20, 1.)]
    # without -1, COCO's "nothing to evaluate"
    assert curves.validation == {'coco/bbox_mAP': [(1, 0.1), (2, 0.3)]}
    assert curves.by_epoch


def test_validation_by_iteration(tmp_path):
    write_log(tmp_path, 'a', [training(5, 4.), {'acc': 0.5, 'step': 5}])
    assert not read_curves(str(tmp_path)).by_epoch


def test_work_dir_without_log(tmp_path):
    with pytest.raises(FileNotFoundError, match='scalars.json'):
        read_curves(str(tmp_path))


def labels(ax):
    return [line.get_label() for line in ax.lines]


def test_figure_of_one_run(work_dir):
    losses, rates, scores = curves_figure(dict(a=read_curves(work_dir))).axes
    assert labels(losses) == ['loss', 'loss_cls']
    assert labels(rates) == ['lr']
    assert labels(scores) == ['coco/bbox_mAP']
    assert scores.get_xlabel() == 'epoch'


def test_figure_of_several_runs(work_dir, tmp_path):
    write_log(tmp_path / 'b', 'x', [training(5, 4.)])
    runs = dict(a=read_curves(work_dir), b=read_curves(tmp_path / 'b'))
    losses, _, scores = curves_figure(runs).axes
    assert labels(losses) == ['a', 'b']
    assert labels(scores) == ['a']
    assert scores.get_ylabel() == 'coco/bbox_mAP'
