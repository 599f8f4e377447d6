"""What a model reads for the tokens of a text: the tokens themselves, or each spelt in pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.pieces import cut


@dataclass(frozen=True, eq=False)
class Reading:
    """The V pieces that the T tokens of a tokenizer are read as, each known by a number.

    Where a model reads its own tokens, each is its own piece and has its own number.

    Attributes:
        pieces: By token id, the numbers of its pieces, in order; empty where nothing is read for
            the token. None where each token is its own piece.
        ids: (V,) int64, the id that the model reads for each piece.
        token: (V,) int64, the token that it is a piece of.
        ends: (V,) bool, whether it is the last piece of its token.
        unknown: (V,) bool, whether it ends a token that stands for text that is not spelt by it.
        sizes: (V,) int64, bytes of each piece; those of a token add up to its own. None where the
            lengths of the tokens are not known.
    """

    pieces: Sequence[range] | None
    ids: Tensor
    token: Tensor
    ends: Tensor
    unknown: Tensor
    sizes: Tensor | None

    @property
    def tokens(self) -> int:
        """T, ids that the tokenizer may give."""
        return len(self.ids) if self.pieces is None else len(self.pieces)

    def read(self, tokens: list[int]) -> tuple[list[int], int]:
        """Turn tokens into the numbers of their pieces.

        Returns:
            The numbers, and of how many tokens nothing is read.
        """
        if self.pieces is None:
            return tokens, 0
        spans = [self.pieces[token] for token in tokens]
        return [piece for span in spans for piece in span], sum(not span for span in spans)


def plain_reading(rows: int, unk_id: int | None, token_bytes: Tensor | None) -> Reading:
    """Let a model read its own tokens.

    Args:
        rows: T, ids that the tokenizer may give.
        unk_id: The unknown token, or None.
        token_bytes: Bytes of each token, for T tokens or more; None where they are not known.
    """
    ids = torch.arange(rows)
    return Reading(
        pieces=None,
        ids=ids,
        token=ids,
        ends=torch.ones(rows, dtype=torch.bool),
        unknown=ids == (-1 if unk_id is None else unk_id),
        sizes=None if token_bytes is None else token_bytes[:rows].long().cpu(),
    )


def spelt_reading(alignment: Alignment, token_bytes: Tensor, unk_id: int | None) -> Reading:
    """Let the base read the donor's tokens: a shared one as its own, a new one in its own pieces.

    A special token is read as its counterpart in the base, or spelt as text where it has none. What
    the base cannot spell, in part or at all, counts as unknown: of the former it reads what it can,
    for the latter its own unknown token, and nothing where it has none.

    Args:
        alignment: The donor's vocabulary against the base's.
        token_bytes: (T,) bytes of the donor's tokens.
        unk_id: The donor's unknown token, or None.
    """
    base = alignment.base
    spelt = _spelt(alignment, unk_id)
    unknown_id = base.roles.get("unk", -1)
    nothing = [unknown_id] if 0 <= unknown_id < alignment.base_rows else []
    spans: list[range] = []
    ids: list[int] = []
    token: list[int] = []
    ends: list[bool] = []
    unknown: list[bool] = []
    sizes: list[int] = []
    for number, length in enumerate(token_bytes.tolist()):
        pieces, whole = spelt.get(number, ([], False))
        pieces = pieces or nothing
        spans.append(range(len(ids), len(ids) + len(pieces)))
        ids += pieces
        token += [number] * len(pieces)
        before = [len(base.spelling[piece] or b"") for piece in pieces[:-1]]
        if sum(before) > length:  # a special token, which stands for no text
            before = [0] * len(before)
        for last, size in enumerate([*before, length - sum(before)][: len(pieces)], 1):
            ends.append(last == len(pieces))
            unknown.append(last == len(pieces) and not whole)
            sizes.append(size)
    return Reading(
        pieces=spans,
        ids=torch.tensor(ids, dtype=torch.int64),
        token=torch.tensor(token, dtype=torch.int64),
        ends=torch.tensor(ends, dtype=torch.bool),
        unknown=torch.tensor(unknown, dtype=torch.bool),
        sizes=torch.tensor(sizes, dtype=torch.int64),
    )


def _spelt(alignment: Alignment, unk_id: int | None) -> dict[int, tuple[list[int], bool]]:
    """List the base ids of each of the donor's tokens, and whether they are all of it."""
    base, donor = alignment.base, alignment.donor
    kinds = Kind.SHARED, Kind.SPECIAL
    found = {n: ([int(alignment.source[n])], n != unk_id) for n in alignment.ids(*kinds).tolist()}
    pieces = dict(alignment.pieces)
    others = [
        number
        for number, spelling in enumerate(donor.spelling)
        if spelling and number not in found and number not in pieces
    ]
    cuts = cut(base, [donor.spelling[number] or b"" for number in others])
    for number, ids in zip(others, cuts, strict=True):
        pieces[number] = [piece for piece in ids if piece < alignment.base_rows]
    for number, ids in pieces.items():
        if number != unk_id:  # which is spelt like text that it does not stand for
            spelt = sum(len(base.spelling[piece] or b"") for piece in ids)
            found[number] = ids, spelt >= len(donor.spelling[number] or b"")
    return found
