"""What a refit would read, looked at before a model is loaded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokswap.errors import RefitError
from tokswap.evaluation.texts import Text, dataset_text, file_text
from tokswap.evaluation.tokens import start_of
from tokswap.pair import Pair
from tokswap.refit.asked import RefitPart
from tokswap.refit.states import affordable, kept_part
from tokswap.refit.store import state_bytes
from tokswap.refit.windows import ENOUGH, Cut, cut_texts

WINDOW = 256
"""Tokens of a window at most: longer contexts cost more than they tell about a row."""
OWN = "the base's own text"
WRITTEN_PART, WRITTEN_LEAST = 3, 15_000
"""Without another word the base writes as much as the text is long, up to so many tokens, and of a
long one this part of it."""
FEW = 20
"""Occurrences of new tokens without which there is nothing to fit to."""


@dataclass(frozen=True)
class Ahead:
    """What is known of a refit before a model is loaded.

    Attributes:
        text: What is read, by name.
        tokens: The donor's tokens of the files, and of what the base writes, about.
        missing: New tokens.
        seen: Those that the files hold; None where there are none, or datasets that are streamed.
        times: How often they stand there, but for what is held out.
        bytes: Of the states on disk meanwhile, at most about; 0 where no row of the head is fitted.
    """

    text: tuple[str, ...]
    tokens: int
    missing: int
    seen: int | None
    times: int | None
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def look_ahead(pair: Pair, asked: RefitPart) -> Ahead:
    """Tell what there is to refit to, before a method solves for minutes.

    Raises:
        RefitError: If there is too little text, or no new token in it.
        EvaluationError: If a text cannot be read.
    """
    names = [*asked.text, *asked.datasets]
    tokens, seen, times = (asked.tokens if names else 0), None, None
    if asked.text and not asked.datasets:
        texts = given_texts(asked)
        names = [text.name for text in texts]
        cut = cut_for(pair, asked, texts, start_of(pair.donor.vocabulary))
        _, counts = free_tokens(pair, cut, ", ".join(names))
        tokens, seen, times = cut.tokens, len(counts), int(counts.sum())
    written = written_for(asked, tokens)
    tokens += written
    part = 1.0 if seen is None or times is None else kept_part(tokens, times, seen)
    width = pair.base.info(pair.layout.output).shape[-1]
    size = state_bytes(int(tokens * part) + (times or 0), width) if asked.output else 0
    missing = len(pair.alignment.missing)
    return Ahead((*names, *[OWN] * bool(written)), tokens, missing, seen, times, size)


def written_for(asked: RefitPart, tokens: int) -> int:
    """Tell how many tokens the base writes itself beside so many of the user's."""
    if asked.written is not None:
        return asked.written
    return max(tokens // WRITTEN_PART, min(tokens, WRITTEN_LEAST))


def given_texts(asked: RefitPart) -> list[Text]:
    """Open the texts that are given.

    Raises:
        EvaluationError: If one cannot be read.
    """
    found = [file_text(Path(name).expanduser()) for name in asked.text]
    # What is too much is left unread: no text has so many bytes a token.
    most = asked.tokens * 16
    return found + [dataset_text(name, most, ("train",)) for name in asked.datasets]


def cut_for(
    pair: Pair,
    asked: RefitPart,
    texts: Sequence[Text],
    start: int | None,
    *,
    limit: int | None = None,
    least: int = ENOUGH,
) -> Cut:
    """Cut texts into windows that a base of so many positions can read.

    Raises:
        RefitError: If there is too little, or the window is too long.
        EvaluationError: If a text cannot be read.
    """
    window = asked.window or min(WINDOW, limit or WINDOW)
    if limit is not None and window > limit:
        raise RefitError(
            f"a window of {window} is longer than the {limit} positions of {pair.base.name}; give "
            f"{limit} or less (--set refit.window={limit})"
        )
    return cut_texts(
        texts,
        pair.donor.vocabulary.backend,
        start_id=start,
        window=window,
        tokens=asked.tokens,
        names=", ".join(text.name for text in texts),
        least=least,
    )


def free_tokens(pair: Pair, cut: Cut, names: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tell which missing tokens the text to fit holds.

    Those that are seldom seen are not among them where all would take too long.

    Returns:
        (A,) ids, ascending, and how often each stands there.

    Raises:
        RefitError: If it holds hardly any.
    """
    missing = pair.alignment.missing
    counts = cut.seen(missing, pair.alignment.rows)
    if int(counts.sum()) < FEW:
        raise RefitError(
            f"{names} holds {int((counts > 0).sum())} of the {len(missing):,} new tokens, "
            f"{int(counts.sum())} times in {cut.tokens:,} tokens, and a refit needs {FEW} times at "
            "least; give more text, or text of the languages and domains that the new tokens are "
            "for"
        )
    free = affordable(counts)
    return missing[free], counts[free]
