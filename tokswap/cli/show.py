"""How results are printed: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

from tokswap import progress, ranks


def start(*, quiet: bool) -> None:
    """Show progress on stderr, unless it is not wanted; of several ranks the first shows it."""
    progress.show(not quiet and not ranks.number())


def print_json(said: Any) -> None:
    """Print a result for scripts, on stdout."""
    typer.echo(json.dumps(said, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout: the first column to the left, numbers to the right."""
    if sys.stdout is None:  # the caller has closed it
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for number, name in enumerate(head):
        numeric = number > 0 and all(_is_number(row[number]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # Where stdout is no terminal there is no width to keep to.
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)


def _is_number(cell: str) -> bool:
    digits = cell.replace(",", "").replace(".", "").strip("-+ ")
    return digits.isdigit() or cell in {"", "–"}
