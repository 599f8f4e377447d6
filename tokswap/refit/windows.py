"""The text of a refit as windows of the donor's tokens, most to fit, some to decide by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokswap.errors import RefitError
from tokswap.evaluation.streaming import stream_ids
from tokswap.evaluation.texts import Text
from tokswap.evaluation.windows import Window, cut_windows

RUN, HELD_OUT_ONE_IN = 4, 8
"""Of runs of so many windows, one in so many is held out: whole stretches, for what stands beside
a fitted token tells of it."""
HEAVIEST = 3.0
"""Positions of the text that one of what the base wrote counts for, at most."""
ENOUGH = 2_000
"""Tokens without which nothing can be fitted and decided."""


class Block(NamedTuple):
    """Windows that are read and kept together.

    Attributes:
        windows: The windows.
        weight: Positions of the user's text that each of theirs counts for.
    """

    windows: Sequence[Window]
    weight: float = 1.0


@dataclass(frozen=True)
class Cut:
    """The windows of a text.

    Attributes:
        fit: What rows are fitted to.
        held_out: What decides how far.
        tokens: Targets in all of them.
        bytes: UTF-8 bytes that were read.
        more: Whether the text goes on behind them.
        own_fit: How many of those to fit, the last ones, are of what the base wrote.
        own: The same of those that are held out.
    """

    fit: tuple[Window, ...]
    held_out: tuple[Window, ...]
    tokens: int
    bytes: int
    more: bool
    own_fit: int = 0
    own: int = 0

    def with_own(self, other: "Cut") -> "Cut":
        """Put the windows of what the base wrote behind these."""
        return Cut(
            self.fit + other.fit,
            self.held_out + other.held_out,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            self.more,
            len(other.fit),
            len(other.held_out),
        )

    def blocks(self, size: int) -> tuple[list[Block], list[Block]]:
        """Give the windows to fit and those that are held out, so many at a time.

        What the base wrote stands for all that is not in the text, so it counts for as much as the
        text does, unless that takes more than :data:`HEAVIEST`.
        """
        fit, held = len(self.fit) - self.own_fit, len(self.held_out) - self.own
        given, own = _targets(self.fit[:fit]), _targets(self.fit[fit:])
        weight = min(HEAVIEST, max(1.0, given / own)) if given and own else 1.0
        return (
            _blocks(self.fit[:fit], size, 1.0) + _blocks(self.fit[fit:], size, weight),
            _blocks(self.held_out[:held], size, 1.0) + _blocks(self.held_out[held:], size, weight),
        )

    def seen(self, missing: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        """Count how often each token is to be fitted, (M,) in the order of the missing ids."""
        counts = np.zeros(rows, dtype=np.int64)
        for window in self.fit:
            np.add.at(counts, window.targets, 1)
        found: NDArray[np.int64] = counts[missing]
        return found


def cut_texts(
    texts: Sequence[Text],
    tokenizer: Tokenizer,
    *,
    start_id: int | None,
    window: int,
    tokens: int,
    names: str,
    least: int = ENOUGH,
) -> Cut:
    """Cut texts into windows, each token a target once.

    Args:
        texts: The texts.
        tokenizer: The donor's.
        start_id: Stands before each document.
        window: Tokens that the model sees at once.
        tokens: Read no more than this many.
        names: What messages call the texts.
        least: Tokens without which there is too little.

    Raises:
        RefitError: If there is too little text.
        EvaluationError: If a text cannot be read.
    """
    read = _Read()
    found: list[Window] = []
    done = 0
    for text in texts:
        for document in text.open():
            ids = stream_ids(read.counted(document), tokenizer)
            for one in cut_windows(ids, start_id, window, window):
                if done >= tokens:
                    return _split(found, done, read.bytes, True, names, least)
                found.append(one)
                done += len(one.targets)
    return _split(found, done, read.bytes, False, names, least)


def _split(found: list[Window], tokens: int, size: int, more: bool, names: str, least: int) -> Cut:
    """Hold some of the windows out.

    Raises:
        RefitError: If they are too few.
    """
    if tokens < least or (least and len(found) < 2 * RUN):
        raise RefitError(
            f"{names} is {tokens:,} of the donor's tokens long, and a refit needs {ENOUGH:,} in "
            f"{2 * RUN} windows at least (150,000 are a good number); give more text or leave the "
            "refit out"
        )
    runs = [found[at : at + RUN] for at in range(0, len(found), RUN)]
    step = max(2, min(HELD_OUT_ONE_IN, len(runs)))
    held = [run for number, run in enumerate(runs) if number % step == step - 1]
    fit = [run for number, run in enumerate(runs) if number % step != step - 1]
    return Cut(
        tuple(one for run in fit for one in run),
        tuple(one for run in held for one in run),
        tokens,
        size,
        more,
    )


def _targets(windows: Sequence[Window]) -> int:
    return sum(len(window.targets) for window in windows)


def _blocks(windows: Sequence[Window], size: int, weight: float) -> list[Block]:
    return [Block(windows[at : at + size], weight) for at in range(0, len(windows), size)]


class _Read:
    """Counts the bytes of what is read."""

    bytes = 0

    def counted(self, chunks: Iterator[str]) -> Iterator[str]:
        for chunk in chunks:
            self.bytes += len(chunk.encode())
            yield chunk
