import numpy as np
import pytest
import torch

from mmdet_scconv.classification import TopKAccuracy


def evaluate(scores, labels, **options):
    metric = TopKAccuracy(**options)
    samples = [
        dict(pred_scores=s, gt_label=label)
        for s, label in zip(scores, torch.tensor(labels))
    ]
    for start in range(0, len(samples), 7):  # batches
        metric.process(None, samples[start:start + 7])
    return metric.evaluate(len(samples))


def test_against_the_definition():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(100, 12)))
    labels = rng.integers(12, size=100).tolist()
    found = evaluate(scores, labels, topk=(1, 3, 5))
    for k in (1, 3, 5):
        right = 0
        for row, label in zip(scores.tolist(), labels):
            best = sorted(range(12), key=lambda c: -row[c])[:k]
            right += label in best
        assert found[f'accuracy/top{k}'] == right / 100


def test_equal_scores_are_never_right():
    assert evaluate(torch.full((10, 4), 0.25), [0, 1] * 5, topk=1) == {
        'accuracy/top1': 0
    }


def test_nan_is_never_right():
    scores = torch.eye(4)
    scores[:2] = torch.nan
    assert evaluate(scores, [0, 1, 2, 3], topk=(1, 3)) == {
        'accuracy/top1': 0.5,
        'accuracy/top3': 0.5
    }


@pytest.mark.parametrize('topk', [0, (), (1, 2.5)])
def test_invalid_topk(topk):
    with pytest.raises(ValueError, match='topk=.* an int >= 1'):
        TopKAccuracy(topk)


def test_topk_of_as_many_classes():
    with pytest.raises(ValueError, match='less than the 4 classes'):
        evaluate(torch.eye(4), [0, 1, 2, 3], topk=(1, 4))
