"""What a step of the training needs, made ready while the step before it is taken."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tokswap.hypernet.surface import SurfaceForms
from tokswap.hypernet.training.chunks import common_chunks, token_ends
from tokswap.hypernet.training.recipe import TrainRecipe
from tokswap.hypernet.training.sampler import SampledTokenizer, TokenizerSampler
from tokswap.hypernet.training.source_text import Source
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokswap.hypernet.training.frozen import FrozenBase


@dataclass(frozen=True, eq=False)
class Identity:
    """Tokens of the base, whose rows are to be predicted.

    Attributes:
        step: The step that they are for.
        ids: (N,) int64 base ids.
    """

    step: int
    ids: Tensor


@dataclass(frozen=True, eq=False)
class Chunked:
    """The base's own cut of the texts, chunk by chunk beside the sampled tokenizer's.

    Attributes:
        ids: (B, P' + 1) int64 base ids; each but the first is predicted from those before it.
        given: (B, P') int64, the chunk of each token that is predicted; -1 for none.
        chunks: (B, P) int64, the same of the sampled tokenizer's cut.
        counts: (B,) int64, chunks of each text.
    """

    ids: Tensor
    given: Tensor
    chunks: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Prepared:
    """B texts as a sampled tokenizer cuts them, and K of its tokens.

    Attributes:
        step: The step that it is for.
        forms: (K, L) int64, the tokens' pieces.
        own: (K,) int64, the base's id of the same token; -1 where it has none.
        copied: Whether the rows of those that it has are the base's.
        ids: (B, P) int64: numbers of tokens, then from K on those of the base's special tokens.
        targets: (B, P) int64, what is to be predicted at each place.
        wanted: (B, P) bool, where something is.
        there: (B, P) bool, where something stands.
        bytes: Bytes of all that is to be predicted.
        language: Index of the texts' language, or None.
        chunked: The base's own cut, where it is asked for.
        truncated: How many of the tokens have more pieces than are read.
        state: Where the texts stand, to go on behind this step.
    """

    step: int
    forms: Tensor
    own: Tensor
    copied: bool
    ids: Tensor
    targets: Tensor
    wanted: Tensor
    there: Tensor
    bytes: int
    language: int | None
    chunked: Chunked | None
    truncated: int
    state: list[Any]


@dataclass(eq=False)
class _Feed:
    """A source with the tokenizers that are sampled from it."""

    source: Source
    sampler: TokenizerSampler
    states: deque[dict[str, Any]] = field(default_factory=deque)

    def read(self, count: int, characters: int) -> list[str]:
        """Read the next batch, into the sampler too."""
        self.states.append(self.source.state())
        if len(self.states) > self.sampler.batches:
            self.states.popleft()
        texts = self.source.batch(count, characters)
        self.sampler.push(texts)
        return texts


class Preparer:
    """Makes the steps ready, one after the other.

    Args:
        recipe: The training.
        base: What is trained through.
        forms: Cuts tokens into the network's pieces.
        sources: The texts, in the recipe's order.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        base: "FrozenBase",
        forms: SurfaceForms,
        sources: Sequence[Source],
    ) -> None:
        self._recipe, self._base, self._forms = recipe, base, forms
        self._vocabulary: Vocabulary = base.checkpoint.vocabulary
        said = recipe.tokenizers
        self._feeds = [
            _Feed(
                source,
                TokenizerSampler(said.size, said.batches, said.spread, said.noise, said.stride),
            )
            for source in sources
        ]
        weights = np.array([source.weight for source in recipe.sources] or [1.0])
        self._shares = weights / weights.sum()
        self._special = {number: place for place, number in enumerate(base.special)}
        rows = base.rows
        ordinary = sorted(n for n in self._vocabulary.ids.values() if n < rows)
        self._ordinary = np.array(ordinary, dtype=np.int64)

    def state(self) -> list[Any]:
        """Tell where the texts stand, JSON-ready: each source before its oldest batch in use."""
        return [
            {"batches": len(feed.states), "from": feed.states[0] if feed.states else None}
            for feed in self._feeds
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go to where a preparer of the same training stood."""
        recipe = self._recipe
        for feed, state in zip(self._feeds, states, strict=True):
            if state["from"] is not None:
                feed.source.restore(dict(state["from"]))
            for _ in range(state["batches"]):
                feed.read(recipe.texts, recipe.characters)

    def step(self, number: int) -> Identity | Prepared:
        """Make a step ready; they are asked for in order."""
        rng = np.random.default_rng([self._recipe.seed, 1, number])
        if number < self._recipe.identity_steps:
            count = min(self._recipe.identity_tokens, len(self._ordinary))
            chosen = rng.choice(self._ordinary, count, replace=False)
            return Identity(number, torch.from_numpy(chosen))
        place = int(rng.choice(len(self._feeds), p=self._shares))
        feed, recipe = self._feeds[place], self._recipe
        while len(feed.states) < feed.sampler.batches - 1:
            feed.read(recipe.texts, recipe.characters)
        texts = feed.read(recipe.texts, recipe.characters)
        sampled = feed.sampler.sample(rng)
        languages = recipe.languages
        language = languages.index(str(recipe.sources[place].language)) if languages else None
        return self._cut(number, texts, sampled, language, rng)

    def _cut(
        self,
        number: int,
        texts: Sequence[str],
        sampled: SampledTokenizer,
        language: int | None,
        rng: np.random.Generator,
    ) -> Prepared:
        """Cut the texts, and choose the tokens."""
        before, behind = (
            [self._special[n] for n in ids] for ids in (self._base.before, self._base.behind)
        )
        longest = self._recipe.length - len(before) - len(behind)
        cuts = [
            np.array(encoding.ids[:longest], dtype=np.int64)
            for encoding in sampled.backend.encode_batch_fast(list(texts))
        ]
        chosen = self._chosen(cuts, len(sampled.tokens), rng)
        renumber = np.full(len(sampled.tokens), -1)
        renumber[chosen] = np.arange(len(chosen))
        tokens = [sampled.tokens[n] for n in chosen.tolist()]
        forms, truncated = self._forms.forms(tokens)
        rows = self._base.rows
        found = (self._vocabulary.ids.get(token, -1) for token in tokens)
        own = torch.tensor([base if base < rows else -1 for base in found])
        count, width = len(chosen), self._recipe.length
        # Behind a text stands anything that there is a row for.
        ids = np.full((len(texts), width), count if self._special else 0, dtype=np.int64)
        there = np.zeros((len(texts), width), dtype=bool)
        text = np.zeros((len(texts), width), dtype=bool)
        for row, cut in enumerate(cuts):
            line = [*(count + n for n in before), *renumber[cut], *(count + n for n in behind)]
            ids[row, : len(line)] = line
            there[row, : len(line)] = True
            text[row, len(before) : len(before) + len(cut)] = True
        sizes = np.array([len(token) for token in tokens] + [0] * len(self._special))
        used = int(there.sum(axis=1).max(initial=2))
        ids, there, text = ids[:, :used], there[:, :used], text[:, :used]
        read, targets, wanted = self._asked(ids, text, count, rng)
        chunked = self._chunked(texts, cuts, sampled.tokens, read.shape[1], len(before))
        return Prepared(
            step=number,
            forms=forms,
            own=own,
            copied=bool(rng.random() < self._recipe.tokenizers.copied),
            ids=torch.from_numpy(read),
            targets=torch.from_numpy(targets),
            wanted=torch.from_numpy(wanted),
            there=torch.from_numpy(there[:, : read.shape[1]].copy()),
            bytes=int(sizes[targets[wanted]].sum()),
            language=language,
            chunked=chunked,
            truncated=truncated,
            state=self.state(),
        )

    def _chosen(
        self, cuts: Sequence[Any], size: int, rng: np.random.Generator
    ) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Choose the tokens that a step learns from: those of its texts, and others."""
        wanted = self._recipe.tokenizers.tokens
        if wanted is None or wanted >= size:
            return np.arange(size)
        there = np.unique(np.concatenate(cuts)) if cuts else np.zeros(0, np.int64)
        others = np.setdiff1d(np.arange(size), there)
        more = rng.choice(others, max(min(wanted - len(there), len(others)), 0), replace=False)
        return np.union1d(there, more)

    def _asked(
        self, ids: Any, text: Any, count: int, rng: np.random.Generator
    ) -> tuple[Any, Any, Any]:
        """Tell what is read, what is to be predicted at each place, and where something is."""
        if self._base.mask is None:
            return ids[:, :-1].copy(), ids[:, 1:].copy(), text[:, 1:].copy()
        gaps = text & (rng.random(text.shape) < self._recipe.masked)
        read = np.where(gaps, count + self._special[self._base.mask], ids)
        return read, ids.copy(), gaps

    def _chunked(
        self,
        texts: Sequence[str],
        cuts: Sequence[Any],
        tokens: Sequence[bytes],
        width: int,
        before: int,
    ) -> Chunked | None:
        """Cut the texts as the base does, and number the chunks that both cuts have."""
        if not self._recipe.loss.chunks:
            return None
        spelling, length = self._vocabulary.spelling, self._recipe.length
        given = np.full((len(texts), length), -1, dtype=np.int64)
        ids = np.zeros((len(texts), length + before), dtype=np.int64)
        chunks = np.full((len(texts), width), -1, dtype=np.int64)
        counts = np.zeros(len(texts), dtype=np.int64)
        encodings = self._vocabulary.backend.encode_batch_fast(
            list(texts), add_special_tokens=False
        )
        for row, (text, cut, encoding) in enumerate(zip(texts, cuts, encodings, strict=True)):
            ends = token_ends([spelling[n] or b"" for n in encoding.ids], text.encode())
            own = encoding.ids[:length]
            ids[row, :before], ids[row, before : before + len(own)] = self._base.before, own
            if ends is None:
                continue
            student = np.cumsum([len(tokens[n]) for n in cut.tolist()], dtype=np.int64)
            of_cut, of_own, counts[row] = common_chunks(student, ends[:length])
            if not before:  # what stands first is predicted by nothing, nor is its chunk
                of_cut, of_own = (np.where(part == 0, -1, part)[1:] for part in (of_cut, of_own))
            chunks[row, : len(of_cut)] = of_cut
            given[row, : len(of_own)] = of_own
        last = int(np.flatnonzero((given >= 0).any(axis=0)).max(initial=0)) + 1
        parts = (ids[:, : last + 1], given[:, :last], chunks, counts)
        return Chunked(*(torch.from_numpy(part.copy()) for part in parts))
