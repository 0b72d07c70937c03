"""Scores against training iterations, over several seeds: CSV, Markdown and
a figure."""
import os.path as osp
import statistics
from dataclasses import dataclass

from matplotlib.figure import Figure

from ..paper.results import mean_and_spread
from ..paper.work_dirs import read_scalars
from ..tables import markdown_table, write_csv

SCORE = 'coco/bbox_mAP'


@dataclass
class Curve:
    """Scores (0 to 1) of one run by iteration."""

    name: str
    seed: int
    scores: dict[int, float]


def read_curve(name: str, seed: int, work_dir: str) -> Curve:
    """The validations that MMEngine logged in a work dir."""
    return Curve(name, seed, {
        entry['step']: entry[SCORE] for entry in read_scalars(work_dir)
        if SCORE in entry
    })


@dataclass
class Curves:
    """Curves of several starts.

    Args:
        curves (list): All runs.
        labels (dict): Label of each name in the outputs, in their order.
        reference (float): Score to compare with, drawn as a line.
        reference_label (str): Its name.
    """

    curves: list[Curve]
    labels: dict[str, str]
    reference: float
    reference_label: str

    @property
    def steps(self) -> list[int]:
        return sorted({step for c in self.curves for step in c.scores})

    def at(self, name: str, step: int) -> list[float]:
        return [curve.scores[step] for curve in self.curves
                if curve.name == name and step in curve.scores]

    def markdown(self) -> str:
        columns = ['iterations', *self.labels.values()]
        rows = [[step, *(mean_and_spread(self.at(name, step), 100)
                         for name in self.labels)] for step in self.steps]
        return markdown_table(columns, rows)

    def figure(self) -> Figure:
        """The mean over seeds as a line, minimum to maximum as a band."""
        figure = Figure(figsize=(7, 4.5))
        axes = figure.subplots()
        for i, (name, label) in enumerate(self.labels.items()):
            steps = [s for s in self.steps if self.at(name, s)]
            scores = [[100 * v for v in self.at(name, s)] for s in steps]
            if not steps:
                continue
            axes.plot(steps, [statistics.mean(s) for s in scores], 'o-',
                      color=f'C{i}', markersize=3, label=label)
            axes.fill_between(steps, [min(s) for s in scores],
                              [max(s) for s in scores], color=f'C{i}',
                              alpha=0.2, linewidth=0)
        axes.axhline(100 * self.reference, color='0.4', linestyle='--',
                     label=self.reference_label)
        axes.set_xlabel('fine-tuning iterations')
        axes.set_ylabel('AP@[.5:.95] (%)')
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.tight_layout()
        return figure

    def write(self, folder: str) -> list[str]:
        """Write curves.csv, curves.md and curves.png; returns the paths."""
        paths = [osp.join(folder, f'curves.{end}')
                 for end in ('csv', 'md', 'png')]
        write_csv(paths[0], ['start', 'seed', 'iteration', SCORE], [
            [curve.name, curve.seed, step, score] for curve in self.curves
            for step, score in sorted(curve.scores.items())
        ])
        with open(paths[1], 'w', encoding='utf-8') as f:
            f.write(self.markdown() + f'\n{self.reference_label}: '
                    f'{100 * self.reference:.2f}. Mean ± standard deviation '
                    '(number of seeds) of AP@[.5:.95] in percent.\n')
        self.figure().savefig(paths[2], dpi=150)
        return paths
