"""Precision over recall, for each class and IoU threshold."""
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .evaluation import Evaluation, iou_index
from .fonts import use_font_for

COLUMNS = ('class', 'iou', 'recall', 'precision')
# more lines cannot be distinguished
MOST_CLASSES = 10


def mean_precision(evaluation: Evaluation) -> np.ndarray:
    """Mean over the classes that have boxes: (IoU thresholds, recalls)."""
    precision = evaluation.precision
    present = (precision >= 0).all((0, 1))
    return precision[..., present].mean(-1)


def curve_rows(evaluation: Evaluation) -> Iterator[tuple]:
    """Lines of the CSV file, 101 recalls for each class and threshold."""
    for k, name in enumerate(evaluation.classes):
        for t, iou in enumerate(evaluation.ious):
            for recall, precision in zip(evaluation.recalls,
                                         evaluation.precision[t, :, k]):
                if precision >= 0:
                    yield name, f'{iou:.2f}', f'{recall:.2f}', precision


def classes_to_show(evaluation: Evaluation, iou: float) -> list[int]:
    """All classes with boxes, by AP; of more than ten the five best and the
    five worst."""
    ap = evaluation.average_precision(iou)
    order = [k for k in np.argsort(-ap) if not np.isnan(ap[k])]
    if len(order) <= MOST_CLASSES:
        return order
    half = MOST_CLASSES // 2
    return order[:half] + order[-half:]


def pr_figure(evaluation: Evaluation, iou: float = 0.5,
              classes: Sequence[str] = ()) -> Figure:
    """Left: each class at one IoU threshold. Right: the mean over the classes
    at each threshold.

    Args:
        iou (float): Threshold of the left part. Defaults to 0.5.
        classes (Sequence[str]): Names of the classes to show. Defaults to
            all, or of many the best and the worst.

    Raises:
        ValueError: For a threshold or a class that the evaluation lacks.
    """
    t = iou_index(evaluation, iou)
    unknown = [name for name in classes if name not in evaluation.classes]
    if unknown:
        raise ValueError(f'class {unknown[0]!r} is not valid: one of '
                         f'{", ".join(evaluation.classes)}')
    use_font_for(tuple(evaluation.classes))
    shown = [evaluation.classes.index(name) for name in classes] or \
        classes_to_show(evaluation, iou)
    ap = evaluation.average_precision(iou)
    figure = Figure(figsize=(12.5, 5))
    left, right = figure.subplots(1, 2, sharey=True)
    for i, k in enumerate(shown):
        left.plot(
            evaluation.recalls,
            np.where(evaluation.precision[t, :, k] < 0, np.nan,
                     evaluation.precision[t, :, k]),
            '-' if i < 10 else '--',
            color=f'C{i % 10}',
            label=f'{evaluation.classes[k]} ({100 * ap[k]:.1f})')
    title = f'IoU {iou:.2f}, legend: AP in percent'
    if len(shown) < np.isfinite(ap).sum():
        title += f'\n{len(shown)} of {np.isfinite(ap).sum()} classes'
        title += '' if classes else ', the best and the worst'
    left.set_title(title, fontsize=10)
    colours = matplotlib.colormaps['viridis'](
        np.linspace(0, 0.92, len(evaluation.ious)))
    for iou_thr, precision, colour in zip(evaluation.ious,
                                          mean_precision(evaluation),
                                          colours):
        right.plot(evaluation.recalls, precision, color=colour,
                   label=f'IoU {iou_thr:.2f} ({100 * precision.mean():.1f})')
    right.set_title('mean over all classes, legend: mAP in percent',
                    fontsize=10)
    left.set_ylabel('precision')
    for ax in (left, right):
        ax.set_xlabel('recall')
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        ax.grid(alpha=0.3)
        for text in ax.legend(
                fontsize=8, loc='upper left',
                bbox_to_anchor=(1.01, 1)).get_texts():
            text.set_parse_math(False)
    figure.tight_layout()
    return figure
