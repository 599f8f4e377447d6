"""What an answer of a method takes, told before it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokswap.vocabulary.align import Alignment

BLOCKS = 256 << 20
"""Bytes that solving a block of rows takes, about."""
ROWS = 8192
"""Rows that are solved for at once."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """What a cost depends on.

    Attributes:
        alignment: The new vocabulary against the base's.
        base_width: D.
        donor_width: E; 0 where the donor's weights are not read.
        tied: Whether one table of the base's serves both roles.
    """

    alignment: Alignment
    base_width: int
    donor_width: int
    tied: bool = False

    @property
    def anchors(self) -> int:
        """N, or a little more than will be fit."""
        return len(self.alignment.anchors)

    @property
    def missing(self) -> int:
        """M."""
        return len(self.alignment.missing)

    def filled(self, *, shared: bool) -> int:
        """Rows that a method fills: M, and those of shared tokens where it fills them too."""
        return self.missing + (self.alignment.shared if shared else 0)

    @property
    def used(self) -> int:
        """Rows of the base that have a token."""
        return len(self.alignment.used_base_ids)

    @property
    def pieces(self) -> int:
        """Pieces of all missing tokens together."""
        return sum(len(ids) for ids in self.alignment.pieces.values())


@dataclass(frozen=True)
class Cost:
    """What an answer takes, about.

    Attributes:
        weights: Weights in the answer, its averages' included.
        dense: Whether the answer is rows, (M, D), instead.
        memory: Bytes held while it is found, the answer and the tables left out.
    """

    weights: int = 0
    dense: bool = False
    memory: int = 0


def together(costs: Sequence[Cost]) -> Cost:
    """Tell what answers take that are found one after the other and then put together."""
    return Cost(
        weights=sum(cost.weights for cost in costs),
        dense=any(cost.dense for cost in costs),
        memory=max(cost.memory for cost in costs),
    )


def recombined_cost(sizes: Sizes, slots: int, *, targets: int = ROWS) -> Cost:
    """Tell what an answer takes that recombines anchors.

    Args:
        sizes: Of the vocabularies and the tables.
        slots: Weights of a row.
        targets: Targets that are held at once.
    """
    # The anchors' rows as they are, off their mean, at unit norm; the targets twice; the slots as
    # they are solved, and their places.
    rows = 3 * sizes.anchors + 2 * min(targets, sizes.missing)
    memory = 4 * rows * sizes.donor_width + 12 * slots * sizes.missing + BLOCKS
    return Cost(weights=sizes.anchors + slots * sizes.missing, memory=memory)


def mapped_cost(sizes: Sizes) -> Cost:
    """Tell what an answer takes that maps rows linearly."""
    width, other = sizes.donor_width, sizes.base_width
    # In float64 the products of the anchors' rows and what they are taken apart into, and blocks
    # of rows on both sides; the rows once more as they are put to their places.
    memory = 8 * (4 * width + 4 * other) * width + 8 * 4 * ROWS * (width + other)
    return Cost(dense=True, memory=memory + 4 * sizes.missing * other)
