"""The classes of the paper's tables and their rows."""
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

TOP1 = {'top-1': 'accuracy/top1'}
SLIMCONV_K1_NOTE = ('k=1 was never published: the closest reconstruction '
                    'from its counts')
OCTCONV_NOTE = 'only the 3x3 convolutions work in two resolutions'
OCTRESNET_NOTE = ('all convolutions but those of the stem and the last stage '
                  'work in two resolutions')


@dataclass(frozen=True)
class Row:
    """One system of a table.

    Args:
        name (str): As in the paper.
        backbone (dict): Type, depth and options of the backbone.
        params (float): The paper's, in millions, if it has any.
        flops (float): The paper's, in G (multiply-accumulates).
        scores (tuple): The paper's, one for each of the table's metrics;
            empty where the paper has none.
        slug (str): The row's part of its config's name.
        note (str): Known differences from the paper's system or counts.
        num_classes (int): Of the fc that the paper's counts are with.
    """

    name: str
    backbone: dict = field(hash=False)
    params: float | None = None
    flops: float | None = None
    scores: tuple[float, ...] = ()
    slug: str = ''
    note: str = ''
    num_classes: int = 1000


@dataclass(frozen=True)
class Table:
    """One table of the paper, or one of ours in its form.

    Args:
        title (str): Its number and what it is about.
        shape (tuple): Height and width of the images that FLOPs are for.
        metrics (dict): Names of the scores, in percent, and the evaluator's
            names; a row's ``scores`` are the first of them.
        rows (tuple): The rows.
        config (str): Path of a row's config in the repository, with
            ``{slug}``; empty where there are none.
    """

    title: str
    shape: tuple[int, int]
    metrics: dict[str, str]
    rows: tuple[Row, ...]
    config: str = ''


def notes(rows: Iterable[Row]) -> list[str]:
    """The rows' notes, a sentence each; rows with the same note share one."""
    names = defaultdict(dict)  # a dict: each name once, in order
    for row in rows:
        if row.note:
            names[row.note][row.name] = None
    return [f'{", ".join(of)}: {note}.' for note, of in names.items()]
