"""Batches of prefixes read in merged tokens, at several numbers of merges, and what that costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tokswap import progress
from tokswap.evaluation.longer_input import LongerInput
from tokswap.evaluation.prefixes import Split
from tokswap.evaluation.tokens import lengths_of
from tokswap.on_demand.embedder import TokenEmbedder
from tokswap.vocabulary.batch_merges import BatchMerger
from tokswap.vocabulary.boundary import Holds

PARTS = (10, 4, 2, 1)
"""By what all merges are divided for the numbers of merges at which the model is measured."""


@dataclass(frozen=True)
class MergedScore:
    """The figures at one number of merges.

    Attributes:
        merges: Merges in each batch, as many as were asked for.
        made: Merges that were made in a batch, the mean; fewer where no pairs were left.
        prefix_tokens: Tokens of a prefix, the mean.
        shorter: By what part of their length prefixes are shorter than without merges.
        dynamic: The part of the prefixes' tokens that the base lacks.
        bits_per_byte: Of the suffixes.
        nats: Of all suffixes together.
    """

    merges: int
    made: float
    prefix_tokens: float
    shorter: float
    dynamic: float
    bits_per_byte: float
    nats: float


@dataclass
class _Sums:
    made: int = 0
    prefix_tokens: int = 0
    dynamic: int = 0
    nats: float = 0.0


class MergedReading:
    """Reads batches of prefixes in merged tokens and adds up what their suffixes cost.

    Args:
        embedder: Gives the rows of dynamic tokens.
        reader: The model.
        holds: Tells which bytes may be one token.
        merges: Merges in each batch, at most.

    Attributes:
        windows: Prefixes that were read.
        tokens: Tokens of all suffixes.
        bytes: Their bytes.
        batches: Batches that were read.
        saturated: Batches in which no pairs were left before all merges were made.
    """

    def __init__(
        self, embedder: TokenEmbedder, reader: LongerInput, holds: Holds, merges: int
    ) -> None:
        self.windows = self.tokens = self.bytes = self.batches = self.saturated = 0
        self._embedder, self._reader, self._holds = embedder, reader, holds
        self._steps = sorted({0, *(merges // part for part in PARTS)})
        self._sums = {step: _Sums() for step in self._steps}
        self._totals = [0] * (merges + 1)
        self._sizes = lengths_of(embedder.vocabulary).tolist()

    def add(self, splits: Sequence[Split]) -> None:
        """Read a batch, whose prefixes share their merges.

        Raises:
            EvaluationError: If the model cannot be run on it.
            TokswapError: If the rows cannot be made.
        """
        if not self.batches:
            self._reader.check(splits[0].prefix)
        first = self._reader.rows
        prefixes = [split.prefix for split in splits]
        merger = BatchMerger(prefixes, self._embedder.vocabulary, self._holds, first)
        merged: dict[int, list[list[int]]] = {}
        for step in self._steps:
            full = merger.merge(step)
            merged[step] = merger.sequences()
            self._sums[step].made += merger.merges
        self.saturated += not full
        ids = sorted({n for prefixes in merged.values() for p in prefixes for n in p if n >= first})
        with progress.silenced():
            rows = self._embedder.embed([merger.spelling(number) for number in ids]).inputs
        self._reader.set_rows(rows)
        place = {number: first + rank for rank, number in enumerate(ids)}
        before: list[list[int]] | None = None
        nats = 0.0
        for step, prefixes in merged.items():
            if prefixes != before:
                read = [[place.get(number, number) for number in prefix] for prefix in prefixes]
                pairs = zip(read, splits, strict=True)
                nats = sum(self._reader.nats([Split(p, split.suffix) for p, split in pairs]))
                before = prefixes
            sums = self._sums[step]
            sums.nats += nats
            sums.prefix_tokens += sum(map(len, prefixes))
            sums.dynamic += sum(number >= first for prefix in prefixes for number in prefix)
        last = merger.totals[-1]
        for number in range(len(self._totals)):
            self._totals[number] += merger.totals[number] if number <= merger.merges else last
        self.batches += 1
        self.windows += len(splits)
        self.tokens += sum(len(split.suffix) for split in splits)
        self.bytes += sum(self._sizes[number] for split in splits for number in split.suffix)

    def scores(self) -> list[MergedScore]:
        """Give the figures of each number of merges, 0 first; for one batch or more."""
        whole = self._sums[0].prefix_tokens
        return [
            MergedScore(
                merges=step,
                made=sums.made / self.batches,
                prefix_tokens=sums.prefix_tokens / self.windows,
                shorter=1 - sums.prefix_tokens / whole,
                dynamic=sums.dynamic / sums.prefix_tokens,
                bits_per_byte=sums.nats / math.log(2) / max(self.bytes, 1),
                nats=sums.nats,
            )
            for step, sums in self._sums.items()
        ]

    def lengths(self) -> list[float]:
        """Give the mean number of tokens of a prefix, without merges and after each."""
        return [total / self.windows for total in self._totals]
