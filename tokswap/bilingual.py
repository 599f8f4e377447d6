"""Two spaces of static vectors as one: words that mean the same, and the rotation they tell."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tokswap.errors import EvaluationError, MethodError
from tokswap.evaluation.texts import file_chunks
from tokswap.static_vectors import Rows, StaticVectors
from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.spelled import plain_texts
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokswap.solvers.linear_map import LinearMap

WORD = re.compile(r"\w+|[^\w\s]+")
WORDS = 8192
"""Words that are cut into tokens at once."""

Pairs = list[tuple[str, str]]


def words_of(texts: Sequence[str]) -> list[list[str]]:
    """Split texts into words and runs of signs."""
    return [WORD.findall(text) for text in texts]


def read_dictionary(path: Path, *, method: str) -> Pairs:
    """Read a bilingual dictionary: on each line a word of the base's language and of the donor's.

    Args:
        path: A text file in UTF-8; a tab stands between the words, or white space.
        method: What messages call the method.

    Raises:
        MethodError: If the file cannot be read, or a line is not of two words.
    """
    try:
        lines = "".join(file_chunks(path)).splitlines()
    except EvaluationError as error:
        raise MethodError(f"{method} cannot read its dictionary: {error}") from error
    found: Pairs = []
    for number, line in enumerate(lines, start=1):
        words = [word.strip() for word in (line.split("\t") if "\t" in line else line.split())]
        if words and (len(words) != 2 or not all(words)):
            raise MethodError(
                f"{method} cannot read line {number} of the dictionary {path}; give on each line a "
                "word of the base's language, a tab, and the word of the donor's"
            )
        found += [(words[0], words[1])] if words else []
    return found


def known_pairs(
    base: StaticVectors, donor: StaticVectors, dictionary: Pairs | None, *, method: str
) -> NDArray[np.int64]:
    """Find the rows of words that mean the same.

    Args:
        base: The vectors of the base's language.
        donor: The vectors of the donor's language.
        dictionary: Pairs of words; each also counts in lower case, and with a capital. Without
            one, equal words are pairs.
        method: What messages call the method.

    Returns:
        (n, 2) rows of the base's and of the donor's vectors, each pair once.

    Raises:
        MethodError: If too few pairs have vectors for a rotation to be told by them.
    """
    forms: Iterable[tuple[str, str]] = ((word, word) for word in base.places)
    if dictionary is not None:
        changes = (str, str.lower, str.capitalize)
        forms = ((change(a), change(b)) for a, b in dictionary for change in changes)
    rows = {
        (base.places[a], donor.places[b]): None
        for a, b in forms
        if a in base.places and b in donor.places
    }
    if len(rows) < donor.width:
        found = f"both languages have vectors of {len(rows)} equal words"
        remedy = f"give a dictionary, or longer texts if {method} learns the vectors"
        if dictionary is not None:
            found = f"the dictionary has {len(rows)} pairs of words with vectors"
            remedy = "give a larger dictionary, or check which language is the base's (the first "
            remedy += "word of a line)"
        raise MethodError(
            f"{method} aligns vectors of {donor.width} dimensions by at least as many pairs of "
            f"words, and {found}; {remedy}"
        )
    return np.array(list(rows), dtype=np.int64).reshape(-1, 2)


def align_vectors(
    base: StaticVectors, donor: StaticVectors, pairs: NDArray[np.int64]
) -> "LinearMap":
    """Turn the donor's vectors towards the base's, by the unit vectors of words that are paired.

    Args:
        base: The vectors of the base's language.
        donor: The vectors of the donor's language.
        pairs: See :func:`known_pairs`.
    """
    import torch

    from tokswap.solvers.linear_map import moments, procrustes
    from tokswap.solvers.units import unit

    source = unit(torch.from_numpy(donor.rows[pairs[:, 1]]))
    target = unit(torch.from_numpy(base.rows[pairs[:, 0]]))
    ids = torch.arange(len(pairs))
    return procrustes(moments(source, target, ids, ids, center=False), scale=False)


def token_vectors(
    vectors: StaticVectors, vocabulary: Vocabulary, ids: Sequence[int]
) -> tuple[Rows, NDArray[np.bool_]]:
    """Give tokens vectors from those of words.

    Where the vectors have character n-grams, a token's text is a word like any other; where they
    have not, a token is the mean of the words that contain it, as the tokenizer cuts them, weighted
    by their frequency. The space at a token's beginning tells nothing in either. By n-grams no
    token has a vector that is part of a character: they would be those of no text.

    Args:
        vectors: Of words.
        vocabulary: Whose tokens.
        ids: Of its tokens.

    Returns:
        Vectors (n, width), zeros for tokens without one, and which have one, (n,) bool.
    """
    if vectors.compose is not None:
        return vectors.composed(plain_texts(vocabulary, ids))
    sums = np.zeros((len(vocabulary), vectors.width), dtype=np.float64)
    weights = np.zeros(len(vocabulary), dtype=np.float64)
    words = list(vectors.places)
    for start in range(0, len(words), WORDS):
        some = words[start : start + WORDS]
        for prefix in ("", " "):
            cuts = cut(vocabulary, [(prefix + word).encode() for word in some])
            tokens = np.array([number for found in cuts for number in found], dtype=np.int64)
            places = start + np.repeat(np.arange(len(some)), [len(found) for found in cuts])
            share = vectors.counts[places]
            np.add.at(sums, tokens, share[:, None] * vectors.rows[places])
            np.add.at(weights, tokens, share)
    chosen = np.asarray(ids, dtype=np.int64)
    known = (weights[chosen] > 0) & sums[chosen].any(axis=1)
    rows = sums[chosen] / np.where(known, weights[chosen], 1.0)[:, None]
    return np.where(known[:, None], rows, 0.0).astype(np.float32), known
