"""Losses, learning rate and validation scores over a training."""
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..paper.work_dirs import NOT_A_SCORE, read_scalars


@dataclass(frozen=True)
class TrainingCurves:
    """The values that MMEngine logged, over all attempts of a training.

    ``training`` and ``validation`` map a name to (step, value) pairs in the
    order of their steps; a step that was trained again after a resume counts
    once, with its last value. ``by_epoch``: validation's steps are epochs.
    """

    training: dict[str, list[tuple[int, float]]]
    validation: dict[str, list[tuple[int, float]]]
    by_epoch: bool


def collect(entries: list[dict]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, dict[int, float]] = {}
    for entry in entries:
        for key, value in entry.items():
            if key != 'step' and isinstance(value, (int, float)):
                curves.setdefault(key, {})[entry['step']] = value
    return {key: sorted(points.items()) for key, points in curves.items()}


def read_curves(work_dir: str) -> TrainingCurves:
    """Read a work dir of tools/train.py.

    Raises:
        FileNotFoundError: If it has no logged values (vis_data/scalars.json).
    """
    entries = [e for e in read_scalars(work_dir) if 'step' in e]
    training = collect([e for e in entries if 'loss' in e])
    # COCO's evaluation gives -1 if there is nothing to evaluate
    validation = {
        key: [(step, value) for step, value in points if value >= 0]
        for key, points in collect([e for e in entries if 'loss' not in e
                                    ]).items() if key not in NOT_A_SCORE
    }
    validation = {key: points for key, points in validation.items() if points}
    if not training and not validation:
        raise FileNotFoundError(f'{work_dir} has no logged values: no '
                                'TIMESTAMP/vis_data/scalars.json with entries')
    last = max((s for points in validation.values() for s, _ in points),
               default=0)
    epochs = training.get('epoch', [(0, 0)])
    return TrainingCurves(training, validation, last <= epochs[-1][1])


def plot(ax, points: list[tuple[int, float]], style: str, label: str) -> None:
    ax.plot(*zip(*points), style, label=label, ms=4, lw=1.5)


def curves_figure(runs: dict[str, TrainingCurves], score: str | None = None
                  ) -> Figure:
    """Losses, learning rate and validation.

    One run: each part of the loss and each score. Several: the total loss
    and one score of each.

    Args:
        runs (dict): Name and curves of each run.
        score (str): Which score of several runs to show. Defaults to the
            first that the first run with any has.
    """
    figure = Figure(figsize=(15, 4.6))
    losses, rates, scores = figure.subplots(1, 3)
    alone = len(runs) == 1
    if score is None:
        score = next((k for c in runs.values() for k in c.validation), None)
    for name, curves in runs.items():
        for key, points in curves.training.items():
            if key == 'loss' or alone and 'loss' in key:
                plot(losses, points, '-' if key == 'loss' else '--',
                     key if alone else name)
        if 'lr' in curves.training:
            plot(rates, curves.training['lr'], '-', 'lr' if alone else name)
        for key, points in curves.validation.items():
            if alone or key == score:
                plot(scores, points, 'o-', key if alone else name)
    losses.set_ylabel('loss' if alone else 'total loss')
    losses.set_ylim(bottom=0)
    rates.set_ylabel('learning rate')
    scores.set_ylabel('validation' if alone or score is None else score)
    by_epoch = {curves.by_epoch for curves in runs.values()}
    scores.set_xlabel('epoch' if by_epoch == {True} else 'iteration'
                      if by_epoch == {False} else 'epoch or iteration')
    scores.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (losses, rates):
        ax.set_xlabel('iteration')
    for ax in (losses, rates, scores):
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(fontsize=8)
        else:
            ax.text(0.5, 0.5, 'nothing logged', ha='center', va='center',
                    transform=ax.transAxes)
    figure.tight_layout()
    return figure
