"""The figures of a measurement, and the running sums that they are made of."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from tokswap.evaluation.reading import Reading


@dataclass(frozen=True)
class TextScore:
    """The figures of one text."""

    name: str
    bits_per_byte: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class GroupScore:
    """The figures of the scored tokens of one group; None where the group has no token or byte.

    ``bytes`` are those that the vocabulary gives the tokens, a dummy space at the start of a
    document among them.
    """

    tokens: int
    bytes: int
    nats: float
    bits_per_byte: float | None
    token_perplexity: float | None


@dataclass(frozen=True)
class Score:
    """How well a model predicts texts.

    Attributes:
        model: Its name.
        bits_per_byte: Nats / ln 2 / bytes: comparable across tokenizers.
        token_perplexity: exp of the mean nats of a token: not comparable across tokenizers.
        tokens: Scored tokens.
        bytes: UTF-8 bytes of the texts.
        tokens_per_byte: Tokens / bytes.
        nats: Sum of the negative log-probabilities.
        unknown: Scored tokens that stand for text the vocabulary cannot spell. Their bytes count
            although they are not predicted, which flatters the model.
        window: Tokens that the model saw at once.
        stride: Tokens by which the window moved.
        dtype: Dtype of the model's embedding.
        texts: The same, text by text.
        groups: Figures by group of tokens, by name.
    """

    model: str
    bits_per_byte: float
    token_perplexity: float
    tokens: int
    bytes: int
    tokens_per_byte: float
    nats: float
    unknown: int
    window: int
    stride: int
    dtype: str
    texts: tuple[TextScore, ...]
    groups: dict[str, GroupScore] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as what JSON knows: dicts, lists, strings and finite numbers."""
        return {**asdict(self), "texts": [asdict(text) for text in self.texts]}


@dataclass
class Count:
    """The running sums of one text; Python's floats are float64."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    unknown: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Nats / ln 2 / bytes, for one byte or more."""
        return self.nats / math.log(2) / self.bytes

    def add(self, nats: float, tokens: int, unknown: int) -> None:
        """Count the targets of a window, which cost so many nats together."""
        self.nats += nats
        self.tokens += tokens
        self.unknown += unknown

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.nats + other.nats,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            self.unknown + other.unknown,
        )


class Tally:
    """How often each of the pieces of a reading was scored, and what they cost together.

    Attributes:
        reading: The V pieces.
        times: (V,) int64.
        nats: (V,) float64.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.times = torch.zeros(len(reading.ids), dtype=torch.int64)
        self.nats = torch.zeros(len(reading.ids), dtype=torch.float64)

    def add(self, targets: Tensor, losses: Tensor) -> None:
        """Count (B, n) pieces with their nats."""
        numbers = targets.flatten()
        self.times.index_add_(0, numbers, torch.ones_like(numbers))
        self.nats.index_add_(0, numbers, losses.flatten())

    def by_token(self, rows: int) -> tuple[Tensor, Tensor]:
        """Add up the pieces of each token.

        Args:
            rows: How many tokens to tell of, at least those that were scored.

        Returns:
            How often each token was scored, (rows,) int64, and its nats, (rows,) float64.
        """
        there = self.times > 0
        tokens = self.reading.token[there]
        counts = torch.zeros(rows, dtype=torch.int64)
        nats = torch.zeros(rows, dtype=torch.float64)
        counts.index_add_(0, tokens, (self.times * self.reading.ends)[there])
        nats.index_add_(0, tokens, self.nats[there])
        return counts, nats

    def groups(self, names: Sequence[str], group_of: Tensor) -> dict[str, GroupScore]:
        """Give the figures of groups of tokens by name.

        Args:
            names: Names of the G groups.
            group_of: (T,) integer, the group of each token.
        """
        reading = self.reading
        assert reading.sizes is not None  # noqa: S101 - asked by the caller
        there = self.times > 0
        of = group_of.long().cpu()[reading.token[there]]

        def summed(values: Tensor) -> list[Any]:
            found: list[Any] = values.new_zeros(len(names)).index_add_(0, of, values).tolist()
            return found

        times = self.times[there]
        sums = zip(
            names,
            summed(times * reading.ends[there]),
            summed(times * reading.sizes[there]),
            summed(self.nats[there]),
            strict=True,
        )
        return {
            name: GroupScore(
                tokens=tokens,
                bytes=size,
                nats=nats,
                bits_per_byte=nats / math.log(2) / size if size else None,
                token_perplexity=perplexity(nats, tokens) if tokens else None,
            )
            for name, tokens, size, nats in sums
        }


def perplexity(nats: float, tokens: int) -> float:
    """Give exp of the mean nats of a token, cut off where it would not be a number any more."""
    return math.exp(min(nats / tokens, 700.0))
