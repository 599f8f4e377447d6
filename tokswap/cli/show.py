"""How results are printed: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from tokswap import progress, ranks

if TYPE_CHECKING:
    from rich.table import Table


def start(*, quiet: bool) -> None:
    """Show progress on stderr, unless it is not wanted; of several ranks the first shows it."""
    progress.show(not quiet and not ranks.number())


def print_json(said: Any) -> None:
    """Print a result for scripts, on stdout."""
    typer.echo(json.dumps(said, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout: the first column to the left, numbers to the right.

    Where it is too wide, columns move together, the heads of numbers are broken and words fold;
    numbers never do.
    """
    if sys.stdout is None:  # the caller has closed it
        return
    from rich.console import Console

    # Where stdout is no terminal there is no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = _table(head, rows, title, narrow=False)
    if console.measure(table).maximum >= console.width:  # or cut to it
        table = _table(head, rows, title, narrow=True)
    console.print(table)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], title: str, *, narrow: bool
) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    if narrow:
        table.padding = (0, 1, 0, 0)
    for number, name in enumerate(head):
        if number > 0 and all(_is_number(row[number]) for row in rows):
            shown = name.replace(" ", "\n").replace("/", "/\n") if narrow else name
            table.add_column(shown, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _is_number(cell: str) -> bool:
    digits = cell.replace(",", "").replace(".", "").strip("-+ ")
    return digits.isdigit() or cell in {"", "–"}
