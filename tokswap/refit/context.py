"""What all steps of a refit work on: the pair, the loaded base, the text and the free tokens."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tokswap.errors import RefitError
from tokswap.evaluation.load import position_limit
from tokswap.evaluation.measure import lengths_of, start_of
from tokswap.evaluation.reading import spelt_reading
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text, dataset_text, file_text
from tokswap.pair import Pair
from tokswap.ranks import Ranks
from tokswap.refit.asked import RefitPart
from tokswap.refit.teacher import Lesson, lessons
from tokswap.refit.windows import Cut, cut_texts

WINDOW = 256
"""Tokens of a window at most: longer contexts cost more than they tell about a row."""
FEW = 20
"""Occurrences of new tokens without which there is nothing to fit to."""


@dataclass(frozen=True)
class Work:
    """Where a refit is done, and by whom.

    Attributes:
        folder: Where the states of the text are kept meanwhile.
        device: Where to compute.
        ranks: The processes that share the work; each does all this.
        memory: Bytes that may be taken.
        seed: Decides what is drawn.
    """

    folder: Path
    device: str
    ranks: Ranks
    memory: int
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Context:
    """What a refit works on.

    Attributes:
        pair: The base and the donor.
        asked: What is to be done.
        swapped: The loaded base.
        work: Where and by whom it is done.
    """

    pair: Pair
    asked: RefitPart
    swapped: SwappedModel
    work: Work

    @property
    def device(self) -> str:
        """Where the base is."""
        return self.work.device

    @property
    def ranks(self) -> Ranks:
        """The processes that share the work."""
        return self.work.ranks

    @property
    def seed(self) -> int:
        """What decides what is drawn."""
        return self.work.seed

    @cached_property
    def cut(self) -> Cut:
        """The windows of the text.

        Raises:
            RefitError: If there is too little.
            EvaluationError: If it cannot be read.
        """
        limit = self._limit or WINDOW
        window = self.asked.window or min(WINDOW, limit)
        if window > limit and self._limit:
            raise RefitError(
                f"a window of {window} is longer than the {limit} positions of "
                f"{self.pair.base.name}; give {limit} or less (--set refit.window={limit})"
            )
        return cut_texts(
            self.texts,
            self.pair.donor.vocabulary.backend,
            start_id=self._start,
            window=window,
            tokens=self.asked.tokens,
            names=", ".join(text.name for text in self.texts),
        )

    @cached_property
    def free(self) -> Tensor:
        """(A,) ids, ascending, of the missing tokens that the text to fit holds.

        Raises:
            RefitError: If it holds hardly any.
        """
        missing = self.pair.alignment.missing
        counts = self.cut.seen(missing, self.pair.alignment.rows)
        there = missing[counts > 0]
        if int(counts.sum()) < FEW:
            raise RefitError(
                f"{', '.join(text.name for text in self.texts)} holds {len(there)} of the "
                f"{len(missing):,} new tokens, {int(counts.sum())} times in {self.cut.tokens:,} "
                f"tokens, and a refit needs {FEW} times at least; give more text, or text of the "
                "languages and domains that the new tokens are for"
            )
        return torch.from_numpy(there)

    @cached_property
    def place(self) -> Tensor:
        """(T,) the number of each free row, -1 for the others."""
        place = torch.full((self.pair.alignment.rows,), -1)
        place[self.free] = torch.arange(len(self.free))
        return place.to(self.device)

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.pair.base.name

    @property
    def times(self) -> int:
        """How often the free tokens stand in the text to fit."""
        return int(self.cut.seen(self.pair.alignment.missing, self.pair.alignment.rows).sum())

    @cached_property
    def texts(self) -> list[Text]:
        """What is read.

        Raises:
            EvaluationError: If a text cannot be read.
            RefitError: If the base is to write it, and cannot.
        """
        if self.asked.written:
            from tokswap.refit.written import written_text

            base, count = self.swapped.base, self.asked.written
            return [written_text(base, self.pair, count, device=self.device, seed=self.seed)]
        found = [file_text(Path(name).expanduser()) for name in self.asked.text]
        most = self.asked.tokens * 16
        return found + [dataset_text(name, most) for name in self.asked.datasets]

    @property
    def _start(self) -> int | None:
        return start_of(self.swapped.vocabulary)

    @property
    def _limit(self) -> int | None:
        return position_limit(self.swapped.base.config)

    @cached_property
    def lessons(self) -> tuple[list[Lesson], list[Lesson]]:
        """The windows as base and new model read them, to learn from and to decide by."""
        vocabulary, free = self.swapped.vocabulary, set(self.free.tolist())
        reading = spelt_reading(
            self.pair.alignment, lengths_of(vocabulary), vocabulary.roles.get("unk")
        )
        starts = self._start, start_of(self.pair.base.vocabulary)
        fit, held = (
            lessons(part, reading, starts=starts, free=free.__contains__, limit=self._limit)
            for part in (self.cut.fit, self.cut.held_out)
        )
        return fit, held
