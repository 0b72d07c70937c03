"""Points of the trade-off plots, the paper's and one's own."""
import pytest

from mmdet_scconv.paper.rows import TABLES
from mmdet_scconv.paper.tradeoff import (
    own_points,
    paper_points,
    tradeoff_figure,
)

CSV = '''\
table,row,config,seed,state,coco/bbox_mAP,params_m,flops_g
T,ResNet50,a.py,0,finished,0.50,25.5,63.0
T,ResNet50,a.py,1,finished,0.54,25.5,63.0
T,SCConv-R50,b.py,0,finished,0.53,16.8,41.4
T,SCConv-R50,b.py,1,3 of 12,,16.8,41.4
'''


@pytest.fixture
def results(tmp_path):
    path = tmp_path / 'results.csv'
    path.write_text(CSV)
    return str(path)


def test_own_points(results):
    dense, scconv = own_points(results, 'coco/bbox_mAP')
    assert (dense.name, dense.params, dense.flops,
            dense.runs) == ('ResNet50', 25.5, 63.0, 2)
    assert dense.score == pytest.approx(52)
    assert dense.spread == pytest.approx(2 * 2**0.5)
    # the unfinished run is none
    assert (scconv.score, scconv.spread, scconv.runs) == (53, 0, 1)


@pytest.mark.parametrize('text,message', [
    ('row,config\n', "no column 'coco/bbox_mAP'"),
    (CSV.splitlines()[0] + '\n', 'no finished run with coco/bbox_mAP'),
    (CSV.replace('0.54,25.5', '0.54,6.4'), "'ResNet50' are of different"),
])
def test_results_that_cannot_be_drawn(tmp_path, text, message):
    path = tmp_path / 'results.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        own_points(str(path), 'coco/bbox_mAP')


def test_paper_points():
    points = paper_points(TABLES['coco'], 'mAP@[.5:.95]', counted=False)
    # the two R101 rows have no score in Table 5
    assert [p.name for p in points] == [
        'ResNet50', 'SPConv-R50', 'SlimConv-R50', 'SCConv-R50'
    ]
    scconv = points[-1]
    assert (scconv.params, scconv.flops, scconv.score) == (16.78, 41.36, 35.6)
    counted = paper_points(TABLES['coco'], 'mAP@[.5:.95]')[-1]
    assert counted.flops == pytest.approx(41.36, rel=0.015)
    assert counted.flops != 41.36
    with pytest.raises(ValueError, match="metric='VOC mAP' is not valid"):
        paper_points(TABLES['coco'], 'VOC mAP')


def test_figure_tells_whose_score_it_is(results):
    paper = paper_points(TABLES['voc'], 'mAP@[.5:.95]', counted=False)
    figure = tradeoff_figure('Title', 'mAP', paper,
                             own_points(results, 'coco/bbox_mAP'))
    left, right = figure.axes
    assert left.get_ylabel() == 'mAP (%)'
    assert right.get_xlabel() == 'FLOPs (G multiply-accumulates)'
    drawn = {bars.get_label(): bars.lines[0] for bars in left.containers}
    assert set(drawn) == {f"{p.name} (paper's)" for p in paper} | {
        'ResNet50 (own, 2 runs)', 'SCConv-R50 (own)'
    }
    hollow, filled = (drawn["ResNet50 (paper's)"],
                      drawn['ResNet50 (own, 2 runs)'])
    assert hollow.get_markerfacecolor() == 'none'
    assert filled.get_markerfacecolor() != 'none'
    # the same system has the same marker
    assert hollow.get_marker() == filled.get_marker()
