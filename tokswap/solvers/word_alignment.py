"""Which symbols of two languages translate each other, told from pairs of lines alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Figures = NDArray[np.float64]

ITERATIONS = 5
"""Rounds of expectation and maximisation; the first model has no other maxima to run into."""


@dataclass(frozen=True, eq=False)
class Links:
    """How often symbols are expected to translate each other.

    Attributes:
        first: (p,) int64 symbols of the first language.
        second: (p,) int64 symbols of the second; each pair occurs once.
        count: (p,) float64.
    """

    first: Numbers
    second: Numbers
    count: Figures


def cells(first: Sequence[Numbers], second: Sequence[Numbers]) -> int:
    """Count what :func:`align` holds: the pairs of distinct symbols of all lines."""
    return sum(len(np.unique(a)) * len(np.unique(b)) for a, b in zip(first, second, strict=True))


def align(
    first: Sequence[Numbers],
    second: Sequence[Numbers],
    *,
    iterations: int = ITERATIONS,
    progress: Callable[[int], None] | None = None,
) -> Links:
    """Fit the first model of Brown et al. in both directions, and link where they agree.

    A symbol of a line comes from one of the symbols of the other line, each as likely before they
    are known, or from none of them, as often as it occurs at all. Both directions are fitted alone,
    by expectation and maximisation. The expected number of links of two symbols in a line is the
    product of what they say, so that a rare symbol does not gather what nothing else explains.

    Args:
        first: The symbols of each line, at least 0.
        second: Those of its translation.
        iterations: Rounds, at least 1.
        progress: Called with 1 after each round of either direction.

    Returns:
        The links over all lines, sorted by the first symbol, then the second.

    Reference:
        Brown et al., "The mathematics of statistical machine translation" (Computational
        Linguistics 19, 1993), model 1; Liang, Taskar and Klein, "Alignment by agreement" (NAACL
        2006) for the product.
    """
    grid = _Grid.of(first, second)
    symbols = grid.keys // grid.width, grid.keys % grid.width
    chances = []
    for here, there in ((0, 1), (1, 0)):
        nowhere = _nowhere(grid, symbols, there)
        chance = _chances(grid, here, there, None, np.zeros(1))
        for number in range(iterations):
            if number:
                likely = _likely(grid, symbols, chance, here, there)
                chance = _chances(grid, here, there, likely, nowhere)
            if progress is not None:
                progress(1)
        chances.append(chance)
    often = np.minimum(grid.often[0], grid.often[1])
    links = often * chances[0] * chances[1]
    count: Figures = np.bincount(grid.pair, links, minlength=len(grid.keys)).astype(np.float64)
    return Links(*symbols, count)


@dataclass(frozen=True, eq=False)
class _Grid:
    """The cells of all lines: each distinct symbol of a line against each of its translation.

    Attributes:
        keys: (p,) the distinct pairs of symbols, as the first times ``width`` plus the second.
        width: One more than the largest symbol of the second language.
        pair: (c,) the pair of each cell.
        place: By language, (c,) the symbol in its line that the cell belongs to.
        often: By language, (c,) how often that symbol stands in the line.
    """

    keys: Numbers
    width: int
    pair: Numbers
    place: tuple[NDArray[np.int32], NDArray[np.int32]]
    often: tuple[NDArray[np.float32], NDArray[np.float32]]

    @classmethod
    def of(cls, first: Sequence[Numbers], second: Sequence[Numbers]) -> "_Grid":
        """Lay the lines of both languages against each other."""
        width = 1 + max((int(line.max()) for line in second if len(line)), default=0)
        keys = [np.zeros(0, np.int64)]
        place = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        often = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
        done = [0, 0]
        for line, translation in zip(first, second, strict=True):
            some, counts = np.unique(line, return_counts=True)
            others, other_counts = np.unique(translation, return_counts=True)
            rows, columns = len(some), len(others)
            keys.append((some[:, None] * width + others).ravel())
            place[0].append(np.repeat(np.arange(done[0], done[0] + rows, dtype=np.int32), columns))
            place[1].append(np.tile(np.arange(done[1], done[1] + columns, dtype=np.int32), rows))
            often[0].append(np.repeat(counts.astype(np.float32), columns))
            often[1].append(np.tile(other_counts.astype(np.float32), rows))
            done = [done[0] + rows, done[1] + columns]
        distinct, pair = np.unique(np.concatenate(keys), return_inverse=True)
        places = np.concatenate(place[0]), np.concatenate(place[1])
        return cls(
            distinct, width, pair, places, (np.concatenate(often[0]), np.concatenate(often[1]))
        )


def _chances(
    grid: _Grid, here: int, there: int, likely: Figures | None, nowhere: Figures
) -> Figures:
    """Tell for each cell how likely the symbol ``there`` comes from the one ``here``, (c,).

    Args:
        grid: The cells.
        here: The language that explains.
        there: The language that is explained.
        likely: How likely each pair is, (p,); without it all are as likely.
        nowhere: How likely the symbol of each cell comes from none, (c,).
    """
    weights = grid.often[here].astype(np.float64)
    if likely is not None:
        weights *= likely[grid.pair]
    whole = np.bincount(grid.place[there], weights)
    found: Figures = weights / np.maximum(whole[grid.place[there]] + nowhere, 1e-300)
    return found


def _likely(
    grid: _Grid, symbols: tuple[Numbers, Numbers], chances: Figures, here: int, there: int
) -> Figures:
    """Tell how likely each pair is among those with the same symbol ``here``, (p,)."""
    counts = np.bincount(grid.pair, grid.often[there] * chances, minlength=len(grid.keys))
    whole = np.bincount(symbols[here], counts)
    found: Figures = counts / np.maximum(whole[symbols[here]], 1e-300)
    return found


def _nowhere(grid: _Grid, symbols: tuple[Numbers, Numbers], there: int) -> Figures:
    """Tell how likely the symbol of each cell comes from none: as often as it occurs, (c,)."""
    # Each symbol in its line once, by the first of its cells.
    _, ones = np.unique(grid.place[there], return_index=True)
    symbol = symbols[there][grid.pair]
    occur = np.bincount(symbol[ones], grid.often[there][ones])
    found: Figures = (occur / max(occur.sum(), 1.0))[symbol]
    return found
