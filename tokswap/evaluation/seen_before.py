"""Measured text that rows were fitted to: its figures would be too good."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokswap.evaluation.measure import SAMPLE
from tokswap.evaluation.texts import file_chunks

LINE = 24
"""Characters of a line that is not in two texts by chance."""
LONGEST = 1_000_000
"""Characters of a line at most, so that a file without line ends is no matter of memory."""
BYTES = 5
"""Of a token, about."""
MUCH = 0.02
"""Part of the measured lines from which on it is told; licences and headings are in many texts."""


def seen_before(measured: Sequence[str], read: Sequence[str], tokens: int) -> str | None:
    """Say how much of what is measured on stands in what rows are fitted to as well.

    Args:
        measured: Files to measure on; without one, the bundled sample.
        read: Files to fit to.
        tokens: What is read of these at most.

    Returns:
        A line for the user, if it is more than a little.

    Raises:
        EvaluationError: If a file cannot be read.
    """
    if not read:
        return None
    known = {hash(line) for line in _lines(_no_more(_paths(read), tokens * BYTES))}
    length = seen = 0
    for path in _paths(measured) or [SAMPLE]:
        for line in _lines(_whole(path)):
            length += len(line)
            seen += len(line) * (hash(line) in known)
    part = seen / max(length, 1)
    if part < MUCH:
        return None
    return (
        f"{part:.0%} of the lines that are measured on stand in the refit's text, too: with a "
        "refit the figures are better than on other text; measure on text that is not in it"
    )


def _paths(names: Sequence[str]) -> list[Path]:
    return [Path(name).expanduser() for name in names]


def _whole(path: Path) -> Iterator[str]:
    yield from file_chunks(path)
    yield "\n"


def _no_more(paths: Sequence[Path], most: int) -> Iterator[str]:
    for path in paths:
        for chunk in _whole(path):
            if most <= 0:
                return
            yield chunk
            most -= len(chunk)


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Join the chunks of files to lines that are long enough; what has no end is cut."""
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], ""
        yield from (line for line in map(str.strip, lines) if len(line) >= LINE)
    if len(rest.strip()) >= LINE:
        yield rest.strip()
