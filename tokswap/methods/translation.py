"""How often the base's tokens translate the donor's, in lines that translate each other."""

from collections.abc import Sequence

import numpy as np

from tokswap.progress import bar, note
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.aligned_text import Numbers, cut_texts
from tokswap.vocabulary.shared_text import BATCH, Counts, Tally
from tokswap.vocabulary.tokens import Vocabulary

MAX_CELLS = 8_000_000
"""Pairs of tokens in a line that are held at once, which takes about a gigabyte."""


def count_translated(
    alignment: Alignment,
    pairs: Sequence[tuple[str, str]],
    *,
    label: str,
    max_cells: int = MAX_CELLS,
) -> Counts:
    """Count how often tokens of the base and missing tokens of the donor translate each other.

    A token occurs as often as anything is expected to translate it. Tokens without a letter are
    left out, for theirs is no matter of language, and so are parts of characters.

    Args:
        alignment: The two vocabularies.
        pairs: A line for the base and its translation for the donor, each.
        label: What is being done, in a few words.
        max_cells: Pairs of tokens to hold; lines beyond are left out, and a note says so.
    """
    from tokswap.solvers.word_alignment import ITERATIONS, align

    base: list[Numbers] = []
    donor: list[Numbers] = []
    held = 0
    for start in range(0, len(pairs), BATCH):
        some = pairs[start : start + BATCH]
        cuts = (
            [_ordinary(side, cut.ids) for cut in cut_texts(side, lines)]
            for side, lines in zip(
                (alignment.base, alignment.donor), zip(*some, strict=True), strict=True
            )
        )
        for one, other in zip(*cuts, strict=True):
            held += len(np.unique(one)) * len(np.unique(other))
            if held > max_cells and base:
                break
            base.append(one)
            donor.append(other)
        if held > max_cells:
            note(f"{label} in the first {len(base):,} of {len(pairs):,} lines, for memory's sake")
            break
    with bar(label, 2 * ITERATIONS) as advance:
        links = align(base, donor, progress=advance)
    tally = Tally(alignment)
    wanted = _lettered(alignment.donor)[links.second]
    tally.add(links.second[wanted], links.first[wanted], links.count[wanted])
    tally.occur(links.second[wanted], links.count[wanted])
    return tally.counts()


def _ordinary(vocabulary: Vocabulary, ids: Numbers) -> Numbers:
    return ids[~np.isin(ids, list(vocabulary.special))]


def _lettered(vocabulary: Vocabulary) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Tell which tokens have a letter in them: (T,) bool."""
    texts = ((spelling or b"").decode(errors="replace") for spelling in vocabulary.spelling)
    return np.array([any(map(str.isalpha, text)) for text in texts], dtype=np.bool_)
