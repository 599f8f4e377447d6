"""Vectors of tokens in which alike tokens are near: a text encoder's, or the base's own rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.base import Problem
from tokswap.methods.token_texts import Texts

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.encoders import Encoder

Pooling = Annotated[
    Literal["mean", "cls", "last"] | None,
    Field(description="how the encoder's states become one vector; null for its own way"),
]
"""The setting ``encoder_pooling``."""
Prefix = Annotated[
    str | None,
    Field(description="written before each text; null for the encoder's own prompt"),
]
"""The setting ``encoder_prefix``."""
BatchSize = Annotated[int, Field(gt=0, description="texts that are encoded at once")]
"""The setting ``batch_size``."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of a problem's tokens; those of tokens without one are zeros.

    Attributes:
        missing: (M, E) float32, of the missing tokens.
        base: (U, E) float32, of the base's tokens that count.
        place: (S,) int64, where in ``base`` the vector of a base token is; -1 for the others.
    """

    missing: "Tensor"
    base: "Tensor"
    place: "Tensor"

    @cached_property
    def known_missing(self) -> "Tensor":
        """(M,) bool, which missing tokens have a vector."""
        return self.missing.any(dim=1)

    @cached_property
    def known_base(self) -> "Tensor":
        """(U,) bool, which of the base's tokens have a vector."""
        return self.base.any(dim=1)


def encoded(texts: Texts, encoder: "Encoder", base_rows: int) -> Vectors:
    """Embed the tokens' texts.

    Args:
        texts: The tokens as texts.
        encoder: The text encoder.
        base_rows: S.

    Raises:
        EncoderError: If the encoder does not load, or gives no finite numbers.
    """
    import torch

    from tokswap.encoders import embed

    ids = sorted(texts.base)
    given = [*texts.missing, *(texts.base[number] for number in ids)]
    there = torch.tensor([text is not None for text in given], dtype=torch.bool)
    found = embed(encoder, [text for text in given if text is not None])
    vectors = found.new_zeros(len(given), found.shape[1])
    vectors[there] = found
    count = len(texts.missing)
    return Vectors(vectors[:count], vectors[count:], _places(ids, base_rows))


def encoder_source(encoder: "Encoder") -> dict[str, str]:
    """Tell which encoder it is, as :meth:`~tokswap.methods.base.Method.sources` does."""
    return {encoder.name: encoder.settings.encoder}


def of_base(problem: Problem, texts: Texts) -> Vectors:
    """Take the base's own input rows, and the mean of its pieces' rows for a missing token.

    A token without a text has no vector here, either: the rows of bytes say little of it.

    Raises:
        MethodError: If they are not finite.
    """
    import torch

    from tokswap.solvers.sparse import SparseRows

    table, rows = (problem.base_inputs or problem.base_table)(), problem.alignment.base_rows
    ids = sorted(texts.base)
    base = table[torch.tensor(ids, dtype=torch.int64)].float()
    if not bool(base.isfinite().all()):
        raise MethodError(
            f"tokenadapt cannot compare tokens by the input rows of {problem.alignment.base.name!r}"
            ", which hold NaN or infinite values; fetch them again, or give an encoder"
        )
    weights = [[1.0 / max(len(row), 1)] * len(row) for row in texts.pieces]
    place = _places(ids, rows)
    means = SparseRows.from_lists(texts.pieces, weights, rows)
    missing = means.map_columns(place.clamp_min(0), len(ids)).apply(base)
    missing[torch.tensor([text is None for text in texts.missing], dtype=torch.bool)] = 0
    base[torch.tensor([texts.base[number] is None for number in ids], dtype=torch.bool)] = 0
    return Vectors(missing, base, place)


def _places(ids: list[int], base_rows: int) -> "Tensor":
    import torch

    place = torch.full((base_rows,), -1, dtype=torch.int64)
    place[torch.tensor(ids, dtype=torch.int64)] = torch.arange(len(ids))
    return place
