"""Progress of long work, on stderr, shown only when the command line asks for it.

Library code calls :func:`bar` and never prints; :func:`show` is called once, by a command.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_shown = False


def show(enabled: bool = True) -> None:
    """Switch the display of progress on or off for this process."""
    global _shown  # noqa: PLW0603 - one switch for the process, as for logging
    _shown = enabled


def shown() -> bool:
    """Tell whether progress is displayed."""
    return _shown


def note(message: str) -> None:
    """Write one line of progress, where progress is shown."""
    if _shown:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left over ``total`` units of work.

    Where stderr is no terminal, two lines (begin, and end with the seconds) stand for the bar.

    Args:
        label: What is being done, in a few words.
        total: Units of work.

    Yields:
        A function to call with the number of units just finished.
    """
    if not _shown or total <= 0:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        start = time.monotonic()
        note(f"{label} ...")
        yield lambda _: None
        note(f"{label}: {time.monotonic() - start:.1f} s")
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as display:
        task = display.add_task(label, total=total)
        yield lambda units: display.advance(task, units)
