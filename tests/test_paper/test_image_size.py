"""The search for the paper's image size."""
import pytest

from mmdet_scconv.paper.complexity import COUNTERS, count_classifier
from mmdet_scconv.paper.image_size import fit_cells, fit_image_size
from mmdet_scconv.paper.table import Row

SMALL = dict(type='SCConvResNet', depth=18, base_channels=16)


def test_smallest_largest_deviation():
    """Two rows that want 10 and 20 cells meet at 1/10 + 1/20 = 2/n."""
    fit = fit_cells([(1., 0.), (1., 0.)], [10., 20.])
    assert fit.cells == 13
    assert fit.deviations == pytest.approx((0.3, -0.35))
    assert fit.largest == pytest.approx(0.35)


@pytest.mark.parametrize('counter', COUNTERS)
def test_a_known_size_is_found(counter):
    """Of an image that is no square: 3 x 5 cells."""
    count = count_classifier(SMALL, (96, 160), mmengine=True)
    row = Row('Row', SMALL, flops=getattr(count, counter) / 1e9)
    fit = dict(zip(COUNTERS, fit_image_size([row])))[counter]
    assert (fit.counter, fit.cells) == (counter, 15)
    assert fit.largest < 1e-6


def test_rows_without_counts_in_the_paper_are_left_out():
    rows = [Row('Row', SMALL, flops=1.)]
    assert fit_image_size([*rows, Row('Other', SMALL)]) == fit_image_size(rows)
