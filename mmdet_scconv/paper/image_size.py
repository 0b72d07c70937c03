"""Finds the image size of the paper's detection FLOPs.

The paper does not name it. If both sides are multiples of the backbone's
stride, 32, each counter is linear in the number of 32x32 cells of the image.
Therefore the counts of two small images give those of all sizes.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from .complexity import COUNTERS, count_classifier
from .table import Row

STRIDE = 32
SIDES = (64, 128)


@dataclass(frozen=True)
class Fit:
    """The size by which a counter is nearest to the paper's FLOPs.

    ``cells``: the image's area in 32x32 pixels; ``deviations``: of each row's
    count from the paper's, relative.
    """

    counter: str
    cells: int
    deviations: tuple[float, ...]

    @property
    def side(self) -> float:
        """Side of a square of this area, in pixels."""
        return STRIDE * self.cells**0.5

    @property
    def largest(self) -> float:
        return max(map(abs, self.deviations))


def fit_cells(lines: Sequence[tuple[float, float]], flops: Sequence[float],
              counter: str = '', most: int = 2000) -> Fit:
    """Find the area with the smallest largest deviation over all rows.

    Args:
        lines (Sequence): Of each row the count of one cell more, and that of
            no cell.
        flops (Sequence): The paper's count of each row.
        counter (str): Its name.
        most (int): Largest area that is tried, in cells. Defaults to 2000,
            1431x1431 pixels.
    """
    return min((Fit(counter, cells, tuple(
        (slope * cells + constant) / paper - 1
        for (slope, constant), paper in zip(lines, flops)))
        for cells in range(1, most)), key=lambda fit: fit.largest)


def fit_image_size(rows: Sequence[Row]) -> list[Fit]:
    """The best size by each counter, of a backbone with classifier.

    Rows without FLOPs in the paper are left out.
    """
    rows = [row for row in rows if row.flops is not None]
    small, large = SIDES
    cells = [(side // STRIDE)**2 for side in SIDES]
    counts = [[count_classifier(row.backbone, (side, side), mmengine=True)
               for side in (small, large)] for row in rows]
    fits = []
    for counter in COUNTERS:
        lines = []
        for pair in counts:
            first, second = (getattr(count, counter) for count in pair)
            slope = (second - first) / (cells[1] - cells[0])
            lines.append((slope, first - slope * cells[0]))
        fits.append(fit_cells(lines, [1e9 * row.flops for row in rows],
                              counter))
    return fits
