"""Progress of long work, on stderr, shown only when the command line asks for it.

Library code calls :func:`bar` and never prints; :func:`show` is called once, by a command.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINES_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""

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
def silenced() -> Iterator[None]:
    """Show nothing meanwhile: of work in small pieces, the bar around it tells."""
    before = _shown
    show(False)
    try:
        yield
    finally:
        show(before)


@contextmanager
def bar(label: str, total: int, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left over ``total`` units of work.

    Where stderr is no terminal, lines stand for the bar: one at the beginning, one every half
    minute, and one at the end with the seconds.

    Args:
        label: What is being done, in a few words.
        total: Units of work.
        done: Units that were done before; they took no time now.

    Yields:
        A function to call with the number of units just finished.
    """
    if not _shown or total <= 0:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        start = time.monotonic()
        note(f"{label} ...")
        yield _in_lines(label, total, done)
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
    # The speed is that of the last units, and one unit may be a block that takes minutes.
    display = Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), speed_estimate_period=1800
    )
    with display:
        task = display.add_task(label, total=total, completed=done)
        display.advance(task, 0)  # the clock starts now, not with the first block's end
        yield lambda units: display.advance(task, units)


def _in_lines(label: str, total: int, done: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    now_done = 0

    def advance(units: int) -> None:
        nonlocal last, now_done
        now_done += units
        now = time.monotonic()
        if now - last >= LINES_EVERY and 0 < now_done < total - done:
            left = (now - start) / now_done * (total - done - now_done)
            note(f"{label}: {done + now_done:,} of {total:,}, about {duration(left)} left")
            last = now

    return advance


def duration(seconds: float) -> str:
    """Write seconds for people: the nearer the end, the finer."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
