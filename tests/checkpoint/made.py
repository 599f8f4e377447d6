"""Vocabularies made token by token, for tests of what names tokens by their ids."""

from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary


def vocabulary(tokens: list[str | None], **roles: int) -> Vocabulary:
    """Make a vocabulary of these tokens; those in angle brackets are special."""
    special = {n for n, token in enumerate(tokens) if token and token.startswith("<")}
    spelling = tuple(None if token is None else token.encode() for token in tokens)
    return Vocabulary(
        name="made",
        alphabet="text",
        spelling=spelling,
        strings=tuple(token or "" for token in tokens),
        special=frozenset(special),
        fallback=frozenset(),
        ids={s: n for n, s in enumerate(spelling) if s is not None and n not in special},
        roles=roles,
        specification={},
        sha256=repr((tokens, roles)),
    )


def alignment(base: Vocabulary, donor: Vocabulary) -> Alignment:
    """Align two vocabularies, the base with two spare rows and the new one with three."""
    return align(base, donor, base_rows=len(base) + 2, rows=len(donor) + 3)
