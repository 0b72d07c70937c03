"""Tables on the terminal, as Markdown and as CSV."""
import csv
import os
from collections.abc import Sequence

from rich.box import SIMPLE_HEAVY
from rich.console import Console
from rich.table import Table

# used if the output is not a terminal
WIDTH_OF_FILES = 160


def print_table(title: str, columns: Sequence[str],
                rows: Sequence[Sequence[str]]) -> None:
    """Print to the terminal; the first column holds names."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_FILES)
    table = Table(title=title, title_justify='left', box=SIMPLE_HEAVY)
    for i, column in enumerate(columns):
        table.add_column(column, justify='right' if i else 'left')
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def markdown_table(columns: Sequence[str],
                   rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, without a title."""
    lines = [columns, ['---'] + ['---:'] * (len(columns) - 1), *rows]
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in lines)


def write_csv(path: str, columns: Sequence[str],
              rows: Sequence[Sequence]) -> None:
    """Write a CSV file; its folder is made where it is missing."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'w', newline='') as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        writer.writerows(rows)
