"""What a fit gave, in a few lines for a training's log."""
from .layers import LayerReport


def summary(reports: list[LayerReport], bad: float = 0.7) -> list[str]:
    """One line for each group of layers, for a log, and a last one where a
    layer misses much.

    Args:
        reports (list): Of :func:`fit_network`.
        bad (float): Share of the variance. Defaults to 0.7.
    """
    groups: dict[str, list[LayerReport]] = {}
    for report in reports:
        groups.setdefault(group_of(report.name), []).append(report)
    lines = [
        f'{group or "network"}: {len(members)} layers fitted '
        f'({", ".join(sorted({r.method for r in members}))}), unexplained '
        f'variance {min(r.unexplained for r in members):.0%} to '
        f'{max(r.unexplained for r in members):.0%}'
        for group, members in groups.items()
    ]
    worst = [r.name for r in reports if not r.unexplained < bad]
    if worst:
        lines.append(
            f'WARNING: {len(worst)} of {len(reports)} layers leave more than '
            f'{bad:.0%} of the variance unexplained, e.g. {worst[0]}: the '
            'network starts far from the dense one. Fit to more images, or '
            'to images like those that the dense network was trained on')
    return lines


def group_of(name: str) -> str:
    """The stage that a layer is in: its name up to the first number or the
    first numbered part."""
    parts = name.split('.')
    for i, part in enumerate(parts):
        if part.isdigit():
            return '.'.join(parts[:i])
    return '.'.join(parts[:-1])
