"""What all steps of a refit work on: the pair, the loaded base, the text and the free tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokswap.checkpoint.source import Checkpoint
from tokswap.evaluation.load import position_limit
from tokswap.evaluation.reading import spelt_reading
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text
from tokswap.evaluation.tokens import lengths_of, start_of
from tokswap.pair import Pair
from tokswap.ranks import Ranks
from tokswap.refit.ahead import OWN, cut_for, free_tokens, given_texts, written_for
from tokswap.refit.asked import RefitPart
from tokswap.refit.teacher import Lesson, lessons
from tokswap.refit.windows import Cut

Written = dict[tuple[int, int], list[str]]


@dataclass(frozen=True)
class Work:
    """Where a refit is done, and by whom.

    Attributes:
        folder: Where the states of the text are kept meanwhile.
        device: Where to compute.
        ranks: The processes that share the work; each does all this.
        memory: Bytes that may be taken.
        seed: Decides what is drawn.
        written: What the base has written, by its tokens and the seed. It takes a while, so further
            refits of the same base are to be given the same.
    """

    folder: Path
    device: str
    ranks: Ranks
    memory: int
    seed: int = 0
    written: Written = field(default_factory=dict)


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
        """The windows of the text, and behind them those of what the base has written.

        Raises:
            RefitError: If there is too little, or the base cannot write.
            EvaluationError: If a text cannot be read.
        """
        given = self.given
        if not given:
            return self._cut([self.written(self.asked.written or 0)])
        found = self._cut(given)
        count = written_for(self.asked, found.tokens)
        return found.with_own(self._cut([self.written(count)], least=0)) if count else found

    @cached_property
    def given(self) -> list[Text]:
        """The texts that are given, opened once, for that reads a file to its end.

        Raises:
            EvaluationError: If one cannot be read.
        """
        return given_texts(self.asked)

    def _cut(self, texts: Sequence[Text], **more: int) -> Cut:
        return cut_for(self.pair, self.asked, texts, self._start, limit=self._limit, **more)

    def written(self, tokens: int) -> Text:
        """Let the base write; of several ranks the first does, and all read that.

        Raises:
            RefitError: If it cannot.
            RankError: If another rank fails.
        """
        from tokswap.refit.written import as_text, write

        documents: list[str] = []
        if self.ranks.first:
            kept, key = self.work.written, (tokens, self.seed)
            if key not in kept:  # of a comparison every method is refitted to the same text
                base = self.swapped.base
                kept[key] = write(base, self.pair, tokens, device=self.device, seed=self.seed)
            documents = kept[key]
        if self.ranks.world > 1:
            documents = json.loads(self.ranks.share(json.dumps(documents).encode())[0])
        return as_text(documents)

    @cached_property
    def free(self) -> Tensor:
        """(A,) ids, ascending, of the missing tokens that are fitted.

        Raises:
            RefitError: If the text holds hardly any.
        """
        return torch.from_numpy(self._seen[0])

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
        return int(self._seen[1].sum())

    @cached_property
    def _seen(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return free_tokens(self.pair, self.cut, ", ".join(self.names))

    @cached_property
    def names(self) -> list[str]:
        """What is read, by name."""
        given = [text.name for text in self.given]
        return given + ([] if given and self.asked.written == 0 else [OWN])

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


def base_identity(base: Checkpoint) -> list[Any]:
    """Tell a base's files from others, without reading them."""
    paths = [base.files.path(name) for name in base.shards]
    stats = [(path.name, path.stat()) for path in paths]
    files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return [base.name, base.files.revision, *files]
