"""How often the base's tokens write what the donor's do, in texts that both have cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokswap.progress import bar
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.aligned_text import Numbers, cut_texts, overlaps

BATCH = 64
"""Documents that are cut at once."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of pairs of a donor's and a base's token, sorted by the donor's.

    Attributes:
        donor: (p,) int64 the donor's tokens, ascending.
        base: (p,) int64 the base's tokens.
        count: (p,) float64.
        occurred: (T,) float64, how often each token of the donor occurs.
    """

    donor: Numbers
    base: Numbers
    count: NDArray[np.float64]
    occurred: NDArray[np.float64]

    def of(self, number: int) -> tuple[float, dict[int, float]]:
        """Tell how often a token of the donor occurs, and the counts of the base's tokens with it.

        Args:
            number: The donor's id.
        """
        first, last = np.searchsorted(self.donor, [number, number + 1])
        pairs = zip(self.base[first:last].tolist(), self.count[first:last].tolist(), strict=True)
        return float(self.occurred[number]), dict(pairs)


class Tally:
    """Adds up counts of pairs in bounded memory: each pair is held once.

    Args:
        alignment: The two vocabularies; only missing tokens of the donor and ordinary tokens of
            the base that have a row count.
    """

    def __init__(self, alignment: Alignment) -> None:
        self._rows = alignment.base_rows
        self._wanted = np.zeros(alignment.rows, dtype=np.bool_)
        self._wanted[alignment.missing] = True
        self._usable = np.zeros(max(alignment.base_rows, len(alignment.base)), dtype=np.bool_)
        ordinary = set(range(alignment.base_rows)) & {
            number
            for number, spelling in enumerate(alignment.base.spelling)
            if spelling is not None and number not in alignment.base.special
        }
        self._usable[sorted(ordinary)] = True
        self._occurred = np.zeros(alignment.rows, dtype=np.float64)
        self._keys: Numbers = np.zeros(0, np.int64)
        self._sums: NDArray[np.float64] = np.zeros(0, np.float64)
        self._new: list[tuple[Numbers, NDArray[np.float64]]] = []

    def occur(self, donor: Numbers, often: NDArray[np.float64] | float = 1.0) -> None:
        """Note that tokens of the donor occur."""
        np.add.at(self._occurred, donor, often)

    def add(self, donor: Numbers, base: Numbers, count: NDArray[np.float64]) -> None:
        """Add counts of pairs, which may repeat."""
        told = self._wanted[donor] & self._usable[base]
        self._new.append((donor[told] * self._rows + base[told], count[told]))

    def settle(self) -> None:
        """Sum up what was added, so that each pair is held once."""
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._new)])
        sums = np.concatenate([self._sums, *(count for _, count in self._new)])
        self._keys, places = np.unique(keys, return_inverse=True)
        found = np.bincount(places, weights=sums, minlength=len(self._keys))
        self._sums = found.astype(np.float64)
        self._new = []

    def counts(self) -> Counts:
        """Return the counts."""
        self.settle()
        return Counts(self._keys // self._rows, self._keys % self._rows, self._sums, self._occurred)


def count_shared(alignment: Alignment, documents: Sequence[str], *, label: str) -> Counts:
    """Count in texts which tokens of the base write the bytes of the donor's missing tokens.

    Each occurrence of a token counts 1, divided among the base's tokens by the bytes that they
    have in common with it.

    Args:
        alignment: The two vocabularies.
        documents: The texts, each short enough to be cut at once.
        label: What is being done, in a few words.
    """
    tally = Tally(alignment)
    with bar(label, len(documents)) as advance:
        for start in range(0, len(documents), BATCH):
            some = documents[start : start + BATCH]
            cuts = (cut_texts(side, some) for side in (alignment.base, alignment.donor))
            for base, donor in zip(*cuts, strict=True):
                found = overlaps(base, donor)
                sizes = donor.ends - donor.starts
                tally.occur(donor.ids[sizes > 0])
                shares = found.length / sizes[found.second]
                tally.add(donor.ids[found.second], base.ids[found.first], shares)
            tally.settle()
            advance(len(some))
    return tally.counts()
