"""Times of a comparison as rows of a table and as a figure."""
from matplotlib.figure import Figure

from .cases import Case
from .measuring import Timing

COLUMNS = ('case', 'system', 'median s', 'ratio', 'ratio, quartiles',
           'kept MB', 'peak MB')


def lines(case: Case, timings: list[Timing]) -> list[list[str]]:
    """Rows of a table with ``COLUMNS``."""

    def figure(value, form):
        return '' if value is None else format(value, form)

    return [[
        str(case), timing.name, f'{timing.median:.4f}', f'{timing.ratio:.3f}',
        '{:.3f} to {:.3f}'.format(*timing.ratio_spread),
        figure(timing.kept_mb, '.0f'),
        figure(timing.peak_mb, '.0f')
    ] for timing in timings]


def plot(results: list[tuple[Case, list[Timing]]], title: str) -> Figure:
    """Ratios as bars with their quartiles, a group for each case."""
    bars = sum(len(timings) for _, timings in results)
    figure = Figure(figsize=(9, 1.5 + 0.28 * (bars + 1.5 * len(results))))
    axes = figure.subplots()
    names = list(dict.fromkeys(
        t.name for _, timings in results for t in timings))
    y, ticks = 0., []
    for case, timings in results:
        axes.text(0, y - 0.2, str(case), fontsize=8, va='bottom')
        for timing in timings:
            y += 1
            low, high = timing.ratio_spread
            axes.barh(
                y - 0.5, timing.ratio, height=0.8,
                xerr=[[timing.ratio - low], [high - timing.ratio]], capsize=2,
                color=f'C{names.index(timing.name)}')
            axes.text(
                high, y - 0.5, f'  {timing.ratio:.2f}', fontsize=8,
                va='center')
            ticks.append((y - 0.5, timing.name))
        y += 1.5
    axes.set_yticks([t for t, _ in ticks], [name for _, name in ticks],
                    fontsize=8)
    axes.margins(x=0.1)
    axes.axvline(1, color='grey', linewidth=0.8)
    axes.set_xlabel(f'time relative to {names[0]} (median, quartiles)')
    axes.set_ylim(y - 1, -1)
    axes.set_title(title, fontsize=8, wrap=True)
    figure.tight_layout()
    return figure
