"""Dumps, evaluation and PR curves against pycocotools and MMDetection."""
import contextlib
import io
import json
import os
import pickle

import numpy as np
import pytest
import torch
from conftest import REPO
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric, DumpDetResults
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_scconv.visualization.evaluation import (
    Evaluation,
    evaluate,
    image_scores,
)
from mmdet_scconv.visualization.pr_curves import (
    classes_to_show,
    curve_rows,
    mean_precision,
    pr_figure,
)
from mmdet_scconv.visualization.predictions import (
    build_dataset,
    read_predictions,
)

CLASSES = ('cat', 'a$b', 'never')
NUM_IMAGES = 6


def boxes_of(rng, number):
    corner = rng.uniform(0, 60, (number, 2))
    return np.hstack([corner, corner + rng.uniform(10, 40, (number, 2))])


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    """Ids that are neither indices nor in order, and a crowd box."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(NUM_IMAGES):
        for x1, y1, x2, y2 in boxes_of(rng, 4).tolist():
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=90 - i,
                    category_id=(5, 3)[len(annotations) % 2],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(len(annotations) == 5)))
    path = tmp_path_factory.mktemp('coco') / 'val.json'
    path.write_text(
        json.dumps(
            dict(
                images=[
                    dict(id=90 - i, file_name=f'{i}.jpg', height=100,
                         width=100) for i in range(NUM_IMAGES)
                ],
                annotations=annotations,
                categories=[
                    dict(id=i, name=name)
                    for i, name in zip((5, 3, 8), CLASSES)
                ])))
    return str(path)


@pytest.fixture(scope='module')
def dataset(ann_file):
    return CocoDataset(ann_file=ann_file, data_prefix=dict(img=''),
                       metainfo=dict(classes=CLASSES),
                       test_mode=True)


@pytest.fixture(scope='module')
def predictions(dataset):
    """Annotated boxes, moved, some with another label, and random ones."""
    rng = np.random.default_rng(1)
    result = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        found = np.array([n['bbox'] for n in info['instances']])
        found = np.vstack([found + rng.normal(0, 3, found.shape),
                           boxes_of(rng, 3)])
        labels = [n['bbox_label'] for n in info['instances']] + [0, 1, 2]
        labels[0] = rng.integers(2)
        result.append(
            dict(
                img_id=info['img_id'],
                ori_shape=(100, 100),
                pred_instances=dict(
                    bboxes=torch.tensor(found, dtype=torch.float32),
                    scores=torch.tensor(rng.uniform(0, 1, len(found)),
                                        dtype=torch.float32),
                    labels=torch.tensor(labels))))
    return result


@pytest.fixture(scope='module')
def evaluation(dataset, predictions):
    return evaluate(dataset, predictions)


@pytest.fixture(scope='module')
def pycocotools_eval(ann_file, predictions):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(ann_file)
        found = truth.loadRes([
            dict(
                image_id=p['img_id'],
                category_id=(5, 3, 8)[label],
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score) for p in predictions
            for (x1, y1, x2, y2), score, label in zip(
                *(p['pred_instances'][key].tolist()
                  for key in ('bboxes', 'scores', 'labels')))
        ])
        result = COCOeval(truth, found, 'bbox')
        result.params.catIds = [5, 3, 8]  # by label
        result.params.useCats = 1
        result.evaluate()
        result.accumulate()
        result.summarize()
    return result


def test_precision_is_that_of_pycocotools(evaluation, pycocotools_eval):
    # which sorts its categories by id
    expected = pycocotools_eval.eval['precision'][:, :, [1, 0, 2], 0, 2]
    np.testing.assert_allclose(evaluation.precision, expected, atol=1e-9)
    assert evaluation.precision.shape == (10, 101, 3)
    np.testing.assert_allclose(evaluation.coco.stats, pycocotools_eval.stats,
                               atol=1e-9)


def test_mean_ap_is_that_of_mmdetection(ann_file, evaluation, predictions):
    metric = CocoMetric(ann_file=ann_file, metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, predictions)
    expected = metric.evaluate(NUM_IMAGES)
    ap = evaluation.average_precision()
    assert np.isnan(ap[2])
    assert np.nanmean(ap) == pytest.approx(expected['coco/bbox_mAP'], abs=6e-4)
    assert np.nanmean(evaluation.average_precision(0.75)) == pytest.approx(
        expected['coco/bbox_mAP_75'], abs=6e-4)


def test_curves_of_the_figure_and_of_the_file(evaluation, pycocotools_eval):
    precision = pycocotools_eval.eval['precision'][..., 0, 2]
    figure = pr_figure(evaluation, iou=0.75, classes=['cat'])
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(),
                               precision[5, :, 1], atol=1e-9)
    np.testing.assert_allclose(
        right.lines[-1].get_ydata(), precision[9][:, :2].mean(-1), atol=1e-9)
    rows = list(curve_rows(evaluation))
    # none of the class without boxes
    assert len(rows) == 2 * 10 * 101
    assert rows[0][:3] == ('cat', '0.50', '0.00')
    assert rows[-1][:3] == ('a$b', '0.95', '1.00')
    assert rows[101 * 5 + 50][3] == pytest.approx(precision[5, 50, 1])


def test_classes_in_the_figure(evaluation):
    ap = evaluation.average_precision(0.5)
    assert classes_to_show(evaluation, 0.5) == sorted(
        (0, 1), key=lambda k: -ap[k])
    labels = [line.get_label() for line in pr_figure(evaluation).axes[0].lines]
    assert {label.split(' ')[0] for label in labels} == {'cat', 'a$b'}
    for options, message in ((dict(iou=0.3), 'iou=0.3 is not valid'),
                             (dict(classes=['dog']), "class 'dog'")):
        with pytest.raises(ValueError, match=message):
            pr_figure(evaluation, **options)


def test_of_many_classes_the_best_and_the_worst_are_shown():
    class Many:
        def average_precision(self, iou):
            return np.array([0.3, np.nan, *np.linspace(0, 1, 20)])

    assert classes_to_show(Many(), 0.5) == [21, 20, 19, 18, 17, 6, 5, 4, 3, 2]


def test_image_scores(dataset):
    """Found, missed, of a wrong class, twice, ignored, below the score."""
    def prediction(i, boxes, scores, labels):
        return dict(
            img_id=dataset.get_data_info(i)['img_id'],
            pred_instances=dict(
                bboxes=torch.tensor(boxes).view(-1, 4),
                scores=torch.tensor(scores), labels=torch.tensor(labels)))

    truth = [dataset.get_data_info(i)['instances'] for i in range(NUM_IMAGES)]
    boxes = [[n['bbox'] for n in image] for image in truth]
    labels = [[n['bbox_label'] for n in image] for image in truth]
    crowd = next(i for i in range(NUM_IMAGES)
                 if any(n['ignore_flag'] for n in truth[i]))
    found = {i: prediction(i, [], [], []) for i in range(NUM_IMAGES)}
    found[0] = prediction(0, boxes[0], [0.9] * 4, labels[0])
    found[crowd] = prediction(crowd, boxes[crowd], [0.9] * 4, labels[crowd])
    wrong = [2, *labels[2][1:], labels[2][1]]
    found[2] = prediction(2, boxes[2] + [boxes[2][1]],
                          [0.9, 0.9, 0.9, 0.2, 0.8], wrong)
    scores = image_scores(evaluate(dataset, list(found.values())), 0.3)
    by_index = {s.index: (s.hits, s.missed, s.false) for s in scores}
    assert crowd == 1
    assert by_index[0] == (4, 0, 0)
    assert by_index[1] == (3, 0, 0)
    assert by_index[2] == (2, 2, 2)
    assert by_index[3] == (0, 4, 0)
    assert [s.index for s in scores[:3]] == [0, 1, 2]
    assert [s.f1 for s in scores[:4]] == [1, 1, 0.5, 0]


def test_no_detections_at_all(dataset, predictions):
    nothing = [
        dict(p, pred_instances={k: v[:0]
                                for k, v in p['pred_instances'].items()})
        for p in predictions
    ]
    evaluation = evaluate(dataset, nothing)
    np.testing.assert_array_equal(evaluation.average_precision(0.5)[:2], 0)
    assert mean_precision(evaluation).max() == 0


@pytest.mark.parametrize('change,message', [
    (lambda p: p[:-1], 'only 5 of the 6 images'),
    (lambda p: [*p, dict(p[0], img_id=1)], 'an image 1 that is not in the'),
])
def test_predictions_of_another_data_set(dataset, predictions, change,
                                         message):
    with pytest.raises(ValueError, match=message):
        evaluate(dataset, change(predictions))


def test_dump_of_mmdetection_is_read(tmp_path, predictions):
    path = str(tmp_path / 'dump.pkl')
    dump = DumpDetResults(out_file_path=path)
    dump.process({}, [
        dict(p, scale_factor=np.array([1., 2.]), number=np.float32(3))
        for p in predictions
    ])
    dump.evaluate(NUM_IMAGES)
    read = read_predictions(path)
    assert [p['img_id'] for p in read] == [p['img_id'] for p in predictions]
    torch.testing.assert_close(read[3]['pred_instances'],
                               predictions[3]['pred_instances'])
    np.testing.assert_array_equal(read[0]['scale_factor'], [1, 2])


class Hostile:

    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('content', [
    lambda path: Hostile(os.mkdir, path),
    lambda path: [Hostile(eval, f'__import__("os").mkdir({path!r})')],
    # code inside the bytes that a tensor's storage is read from
    lambda path: Hostile(
        torch.storage._load_from_bytes,
        torch_bytes(Hostile(os.mkdir, path))),
])
def test_dump_that_wants_to_run_code(tmp_path, content):
    path, made = tmp_path / 'dump.pkl', tmp_path / 'made'
    path.write_bytes(pickle.dumps(content(str(made))))
    with pytest.raises(ValueError, match='cannot be read as predictions'):
        read_predictions(str(path))
    assert not made.exists()


def torch_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize('content,message', [
    (b'', 'cannot be read'),
    (pickle.dumps([1, 2])[:-3], 'cannot be read'),
    (pickle.dumps([]), 'holds no predictions'),
    (pickle.dumps([dict(img_id=1)]), 'holds no predictions'),
])
def test_a_file_that_is_not_a_dump(tmp_path, content, message):
    path = tmp_path / 'dump.pkl'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_predictions(str(path))


def test_boxes_of_a_class(evaluation: Evaluation):
    # 24, of which one is a crowd
    assert evaluation.boxes().tolist() == [12, 11, 0]


def test_voc_format(data_home):
    """Difficult boxes count neither as missed nor, where found, as false."""
    cfg = Config.fromfile(
        REPO / 'configs/custom/faster-rcnn_scconv-r18_fpn_12e_voc-format.py')
    cfg.test_dataloader.dataset.data_root = f'{data_home}/data/my_voc/'
    init_default_scope('mmdet')
    dataset = build_dataset(cfg)
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    evaluation = evaluate(dataset, [
        dict(
            img_id=image['img_id'],
            pred_instances=dict(
                bboxes=torch.tensor([n['bbox'] for n in image['instances']]),
                scores=torch.tensor([0.9, 0.8, 0.95]),
                labels=torch.zeros(3, dtype=int))) for image in images
    ])
    assert evaluation.boxes().tolist() == [4]
    assert evaluation.average_precision().tolist() == [1]
    assert [(s.hits, s.missed, s.false)
            for s in image_scores(evaluation, 0.3)] == [(2, 0, 0)] * 2
