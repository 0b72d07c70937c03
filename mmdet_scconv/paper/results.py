"""Writes the results of a table, beside the paper's: CSV, Markdown and a
figure."""
import math
import os.path as osp
import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from ..tables import markdown_table, print_table, write_csv
from .complexity import count_with_classifier
from .table import Row, Table, notes
from .work_dirs import Result

NOTE = '''\
Scores in percent, mean and standard deviation over the seeds; (paper) is
SCConv's, CVPR 2023, trained with an unpublished schedule. Params in millions,
without GroupNorm's, and FLOPs in G multiply-accumulates, by thop's rule, of
the trained network: its backbone with a classifier (1000 classes in detection)
at {0}x{1}. s/iter: median time of a training iteration, as logged.
'''
UNKNOWN_SIZE = (math.nan, math.nan)


def mean_and_spread(values: Sequence[float], factor: float = 1.) -> str:
    """'mean ± standard deviation (n)'; only the value if there is one, '-' if
    there is none."""
    values = [factor * value for value in values]
    if not values:
        return '-'
    mean = f'{statistics.mean(values):.2f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {statistics.stdev(values):.2f} ({len(values)})'


class TableResults:
    """Results of the rows of one table.

    Args:
        table (Table): The table.
        results (dict): For each row's name its results.
    """

    def __init__(self, table: Table, results: dict[str,
                                                   list[Result]]) -> None:
        self.table = table
        self.results = results

    def size_of_run(self, result: Result) -> tuple[float, float]:
        """Params in millions and FLOPs in G of the network that was trained;
        NaN for a backbone that cannot be counted."""
        try:
            count = count_with_classifier(result.model, self.table.shape)
        except ValueError:
            return UNKNOWN_SIZE
        return count.params_without_group_norm / 1e6, count.thop / 1e9

    def size(self, row: Row) -> tuple[float, float]:
        """As :meth:`size_of_run`; NaN for a row without runs, or with runs
        of different networks."""
        sizes = {self.size_of_run(result) for result in
                 self.results[row.name]}
        return sizes.pop() if len(sizes) == 1 else UNKNOWN_SIZE

    def scores(self, row: Row, key: str) -> list[float]:
        return [
            result.metrics[key] for result in self.results[row.name]
            if key in result.metrics
        ]

    def seconds(self, row: Row) -> list[float]:
        return [
            result.seconds for result in self.results[row.name]
            if result.metrics and result.seconds is not None
        ]

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows of the table."""
        columns = ['row']
        for i, name in enumerate(self.table.metrics):
            columns.append(name)
            if any(len(row.scores) > i for row in self.table.rows):
                columns.append('(paper)')
        columns += ['Params', 'FLOPs', 's/iter']
        lines = []
        for row in self.table.rows:
            line = [row.name]
            for i, key in enumerate(self.table.metrics.values()):
                line.append(mean_and_spread(self.scores(row, key), 100))
                if any(len(other.scores) > i for other in self.table.rows):
                    line.append(row.scores[i] if len(row.scores) > i else '-')
            seconds = self.seconds(row)
            lines.append([
                *line, *('-' if math.isnan(size) else f'{size:.4g}'
                         for size in self.size(row)),
                f'{statistics.median(seconds):.3f}' if seconds else '-'
            ])
        return columns, lines

    def print(self) -> None:
        columns, lines = self.summary()
        print_table(self.table.title, columns, lines)

    def write(self, folder: str) -> list[str]:
        """Write results.csv, results.md, results.png and results.svg.

        Returns:
            list: The paths.
        """
        paths = [
            osp.join(folder, f'results.{end}')
            for end in ('csv', 'md', 'png', 'svg')
        ]
        self.write_runs(paths[0])
        columns, lines = self.summary()
        with open(paths[1], 'w', encoding='utf-8') as f:
            f.write(f'# {self.table.title}\n\n')
            f.write(markdown_table(columns, lines))
            f.write('\n' + NOTE.format(*self.table.shape))
            f.writelines(f'\n{note}\n' for note in notes(self.table.rows))
        figure = self.figure()
        for path in paths[2:]:
            figure.savefig(path, dpi=150)
        return paths

    def write_runs(self, path: str) -> None:
        """One line for each run, with its environment."""
        columns = [
            'table', 'row', 'config', 'seed', 'state',
            *self.table.metrics.values(), 'seconds_per_iteration',
            'gpu_memory_mb', 'params_m', 'flops_g', 'environment', 'work_dir'
        ]
        write_csv(path, columns, [[
            self.table.title, row.name,
            osp.basename(result.config), result.seed, result.state,
            *(result.metrics.get(key, '')
              for key in self.table.metrics.values()), result.seconds,
            result.memory, *self.size_of_run(result), result.environment,
            result.work_dir
        ] for row in self.table.rows for result in self.results[row.name]])

    def figure(self) -> Figure:
        """Dots for each row: the main score, ours beside the paper's, and
        what it costs."""
        rows = self.table.rows
        y = range(len(rows))
        figure = Figure(figsize=(11, 1.2 + 0.45 * len(rows)))
        axes = figure.subplots(1, 4, sharey=True)
        name, key = list(self.table.metrics.items())[-1]
        index = len(self.table.metrics) - 1
        if not any(len(row.scores) > index for row in rows):
            # the last one that the paper has
            index = max((len(row.scores) for row in rows), default=0) - 1
            name, key = list(self.table.metrics.items())[index]
        for i, row in enumerate(rows):
            scores = [100 * score for score in self.scores(row, key)]
            if scores:
                spread = statistics.stdev(scores) if len(scores) > 1 else 0
                axes[0].errorbar(
                    statistics.mean(scores), i, xerr=spread, fmt='o',
                    color='C0', capsize=3)
            if len(row.scores) > index >= 0:
                axes[0].plot(row.scores[index], i, 'D', color='C1', mfc='none')
        axes[0].plot([], [], 'o', color='C0', label='ours')
        if any(len(row.scores) > index >= 0 for row in rows):
            axes[0].plot([], [], 'D', color='C1', mfc='none', label='paper')
        axes[0].legend(fontsize=8)
        axes[0].set_xlabel(f'{name} (%)')
        for i, label in enumerate(('parameters (M)', 'FLOPs (G MACs)')):
            axes[1 + i].barh(y, [self.size(row)[i] for row in rows])
            axes[1 + i].set_xlabel(label)
        seconds = [self.seconds(row) for row in rows]
        axes[3].barh(y, [statistics.median(s) if s else 0 for s in seconds])
        axes[3].set_xlabel('training, s/iteration')
        axes[0].set_yticks(list(y), [row.name for row in rows])
        axes[0].invert_yaxis()
        figure.suptitle(self.table.title)
        figure.tight_layout()
        return figure
