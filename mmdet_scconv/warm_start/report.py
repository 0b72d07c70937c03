"""What a fit gave, in a few lines for a training's log."""
import logging
from collections.abc import Iterator

from .layers import LayerReport


def summary(reports: list[LayerReport],
            bad: float = 0.7) -> Iterator[tuple[int, str]]:
    """One line for each group of layers, and a warning where layers are badly
    fitted; each with its logging level.

    Args:
        reports (list): Of :func:`fit_network`.
        bad (float): A layer that leaves a larger part of the variance
            unexplained is badly fitted. Defaults to 0.7.
    """
    groups: dict[str, list[LayerReport]] = {}
    for report in reports:
        groups.setdefault(group_of(report.name), []).append(report)
    for group, members in groups.items():
        yield logging.INFO, (
            f'{group or "network"}: {len(members)} layers fitted '
            f'({", ".join(sorted({r.method for r in members}))}), unexplained '
            f'variance {min(r.unexplained for r in members):.0%} to '
            f'{max(r.unexplained for r in members):.0%}')
    worst = [r.name for r in reports if not r.unexplained < bad]
    if worst:
        yield logging.WARNING, (
            f'{len(worst)} of {len(reports)} layers leave more than '
            f'{bad:.0%} of the variance unexplained, e.g. {worst[0]}: the '
            'network starts far from the dense one. Fit to more images, or '
            'to images like those that the dense network was trained on')


def group_of(name: str) -> str:
    """The stage that a layer is in: its name up to the first number or the
    first numbered part."""
    parts = name.split('.')
    for i, part in enumerate(parts):
        if part.isdigit():
            return '.'.join(parts[:i])
    return '.'.join(parts[:-1])
