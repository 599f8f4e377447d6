"""Tokens as texts for a text encoder, and as what they are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.spelled import plain_text
from tokswap.vocabulary.tokens import Vocabulary


@dataclass(frozen=True, eq=False)
class Texts:
    """The tokens of a problem as texts.

    Attributes:
        missing: The text of each missing token, in the problem's order; None for one without.
        pieces: Base ids of the pieces of each.
        shares: How long each piece is, in lengths of its token.
        neighbours: Base ids of the tokens that may be neighbours, ascending.
        base: The text of each neighbour and each piece, by base id; None for one without.
        starts: Whether each missing token starts a word, where neighbours have to do so, too.
        base_starts: The same for each neighbour.
    """

    missing: list[str | None]
    pieces: list[list[int]]
    shares: list[list[float]]
    neighbours: list[int]
    base: dict[int, str | None]
    starts: list[bool]
    base_starts: list[bool]


def plain_texts(
    alignment: Alignment, ids: Sequence[int], neighbours: Iterable[int], length: str
) -> Texts:
    """Read tokens from their bytes.

    A text comes without the space before and behind it, which encoders drop or take for a token of
    its own; tokens that start a word have neighbours that do. No text has a token that is part of a
    character, or nothing but spaces.

    Args:
        alignment: The new vocabulary against the base's.
        ids: Donor ids of the missing tokens.
        neighbours: Base ids of the tokens that may be neighbours; those without a text are left
            out.
        length: What lengths are counted in: ``chars``, or ``bytes``. Where the token or one of its
            pieces is no text they are counted in bytes.
    """
    donor, base = alignment.donor.spelling, alignment.base.spelling
    spelt = [donor[number] or b"" for number in ids]
    pieces = [alignment.pieces[number] for number in ids]
    texts = {number: plain_text(base[number]) for number in neighbours}
    chosen = [number for number, text in texts.items() if text is not None]
    for row in pieces:
        texts.update((number, plain_text(base[number])) for number in row if number not in texts)
    shares = []
    for token, row in zip(spelt, pieces, strict=True):
        parts = [base[number] or b"" for number in row]
        chars = length == "chars" and all(_decoded(data) is not None for data in (token, *parts))
        size = _characters if chars else len
        shares.append([size(part) / max(size(token), 1) for part in parts])
    return Texts(
        missing=[plain_text(data) for data in spelt],
        pieces=pieces,
        shares=shares,
        neighbours=sorted(chosen),
        base=texts,
        starts=[data[:1].isspace() for data in spelt],
        base_starts=[(base[number] or b"")[:1].isspace() for number in sorted(chosen)],
    )


def decoded_texts(alignment: Alignment, ids: Sequence[int], length: str) -> Texts:
    """Read tokens as TokenAdapt's published code does: by ``decode([id])``.

    A token that is part of a character is the replacement character then, as all others are, and
    its pieces are those of that character; SentencePiece loses the space before a word. All tokens
    of the base that have a row may be neighbours.

    Args:
        alignment: The new vocabulary against the base's.
        ids: Donor ids of the missing tokens.
        length: What lengths are counted in: ``chars`` or ``bytes``.
    """
    base, rows = alignment.base, alignment.base_rows
    missing = _decode(alignment.donor, ids)
    cut = base.backend.encode_batch(missing, add_special_tokens=False)
    pieces = [[number for number in encoding.ids if number < rows] for encoding in cut]
    neighbours = [number for number, data in enumerate(base.spelling[:rows]) if data is not None]
    texts = dict(zip(neighbours, _decode(base, neighbours), strict=True))
    size = len if length == "chars" else _bytes
    shares = [
        [size(texts[number]) / size(text) if text else 0.0 for number in row]
        for text, row in zip(missing, pieces, strict=True)
    ]
    return Texts(
        missing=list(missing),
        pieces=pieces,
        shares=shares,
        neighbours=neighbours,
        base=dict(texts),
        starts=[False] * len(ids),
        base_starts=[False] * len(neighbours),
    )


def _decode(vocabulary: Vocabulary, ids: Sequence[int]) -> list[str]:
    return vocabulary.backend.decode_batch([[n] for n in ids], skip_special_tokens=False)


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _characters(data: bytes) -> int:
    return len(data.decode())


def _bytes(text: str) -> int:
    return len(text.encode())
