"""Score against parameters and FLOPs, as in the paper's Figures 4 and 6."""
import csv
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from matplotlib.figure import Figure

from .complexity import count_classifier
from .rows import Table

MARKERS = 'osD^vP*Xph<>'


@dataclass(frozen=True)
class Point:
    """One system.

    ``params`` in millions, ``flops`` in G multiply-accumulates, ``score`` and
    ``spread`` (standard deviation over ``runs``) in percent.
    """

    name: str
    params: float
    flops: float
    score: float
    spread: float = 0.
    runs: int = 1


def paper_points(table: Table, metric: str, counted: bool = True
                 ) -> list[Point]:
    """The rows that have a score in the paper.

    Args:
        metric (str): One of the table's, e.g. 'mAP@[.5:.95]'.
        counted (bool): Whether parameters and FLOPs are the ones counted
            here by thop's rule, else the paper's own. Defaults to True.

    Raises:
        ValueError: If the table has no such metric.
    """
    if metric not in table.metrics:
        raise ValueError(f'metric={metric!r} is not valid: one of '
                         f'{", ".join(table.metrics)}')
    index = list(table.metrics).index(metric)
    points = []
    for row in table.rows:
        if len(row.scores) <= index:
            continue
        size = row.params, row.flops
        if counted:
            count = count_classifier(
                row.backbone, table.shape, num_classes=row.num_classes)
            size = (count.params_without_group_norm / 1e6, count.thop / 1e9)
        points.append(Point(row.name, *size, row.scores[index]))
    return points


def own_points(path: str, key: str) -> list[Point]:
    """The finished runs of a results.csv of tools/reproduce.py, one point
    for all seeds of a row.

    Args:
        path (str): The file.
        key (str): The evaluator's name of a score, e.g. 'coco/bbox_mAP'.

    Raises:
        ValueError: If the file has no such column, no finished run, or runs
            of different networks in one row.
    """
    with open(path, newline='') as f:
        reader = csv.DictReader(f)
        columns = reader.fieldnames or []
        missing = {key, 'row', 'params_m', 'flops_g'} - set(columns)
        if missing:
            raise ValueError(f'{path} has no column {sorted(missing)[0]!r}: '
                             f'its columns are {", ".join(columns)}')
        runs = defaultdict(list)
        for line in reader:
            if line[key]:
                runs[line['row']].append(line)
    if not runs:
        raise ValueError(f'{path} has no finished run with {key}')
    points = []
    for name, lines in runs.items():
        sizes = {(line['params_m'], line['flops_g']) for line in lines}
        if len(sizes) > 1:
            raise ValueError(f'{path}: the runs of {name!r} are of different '
                             'networks, their params_m and flops_g differ')
        scores = [100 * float(line[key]) for line in lines]
        points.append(
            Point(
                name, float(lines[0]['params_m']),
                float(lines[0]['flops_g']), statistics.mean(scores),
                statistics.stdev(scores) if len(scores) > 1 else 0.,
                len(scores)))
    return points


def tradeoff_figure(title: str, metric: str, paper: list[Point],
                    own: list[Point], costs: str = '') -> Figure:
    """Score against parameters and against FLOPs.

    Each system has a colour and a marker: hollow for the paper's score, filled
    for one's own, with the standard deviation.

    Args:
        costs (str): How parameters and FLOPs were counted.
    """
    names = list(dict.fromkeys(p.name for p in (*paper, *own)))
    figure = Figure(figsize=(11.5, max(4.5, 1.2 + 0.27 * (
        len(paper) + len(own)))))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, key, label in zip(
            axes, ('params', 'flops'),
            ('parameters (M)', 'FLOPs (G multiply-accumulates)')):
        for points, filled in ((paper, False), (own, True)):
            for point in points:
                cost, i = getattr(point, key), names.index(point.name)
                if math.isnan(cost):  # not a ResNet: not counted
                    continue
                source = 'own' if filled else "paper's"
                if point.runs > 1:
                    source += f', {point.runs} runs'
                ax.errorbar(
                    cost,
                    point.score,
                    yerr=point.spread or None,
                    color=f'C{i % 10}',
                    marker=MARKERS[i % len(MARKERS)],
                    mfc=None if filled else 'none',
                    mew=1.5,
                    ms=8,
                    capsize=3,
                    linestyle='none',
                    label=f'{point.name} ({source})')
        ax.set_xlabel(label)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(f'{metric} (%)')
    handles, labels = axes[0].get_legend_handles_labels()
    figure.suptitle(f'{title}\n{costs}' if costs else title, fontsize=11)
    figure.tight_layout(rect=(0, 0, 0.74, 1))
    figure.legend(
        handles, labels, loc='center left', bbox_to_anchor=(0.74, 0.5),
        fontsize=8.5, title="hollow: the paper's score" if paper else None)
    return figure
