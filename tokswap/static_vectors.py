"""Static vectors of words or tokens: fastText's, trained here on a text, or read from a file.

gensim trains and reads them; it is installed by ``pip install 'tokswap[vectors]'``.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokswap.errors import MethodError
from tokswap.progress import bar

Rows = NDArray[np.float32]

NO_GENSIM = (
    "{method} needs the package gensim, which is not installed; pip install 'tokswap[vectors]'"
)
SENTENCE = 1000
"""Words that are trained on at once; gensim cuts off what is over 10,000."""
BUCKETS_A_WORD = 16
MOST_BUCKETS = 2_000_000
"""Vectors of character n-grams, shared by hash: fastText has always 2,000,000, 800 MB of them."""
KEPT = 4
"""Trained vectors that are kept in memory: those of both roles, and of a base and a donor."""


@dataclass(frozen=True, eq=False)
class StaticVectors:
    """Vectors of words, or of tokens taken for words.

    Attributes:
        places: Row of each word.
        rows: (n, width) float32.
        counts: (n,) how often each word occurs in the text, or as good as that.
        compose: Gives a word its vector by its character n-grams, known or not; None where the
            vectors know only whole words.
    """

    places: Mapping[str, int]
    rows: Rows
    counts: NDArray[np.float64]
    compose: Callable[[str], Rows] | None = None

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.rows.shape[1])

    def look_up(self, words: Sequence[str | None]) -> tuple[Rows, NDArray[np.bool_]]:
        """Look up words as they are, without n-grams.

        Args:
            words: Of which None and unknown ones have no vector.

        Returns:
            Vectors (n, width), zeros for unknown words, and which are known, (n,) bool.
        """
        places = np.array([-1 if w is None else self.places.get(w, -1) for w in words], dtype=int)
        known = places >= 0
        found = np.zeros((len(words), self.width), dtype=np.float32)
        found[known] = self.rows[places[known]]
        return found, known

    def composed(self, words: Sequence[str | None]) -> tuple[Rows, NDArray[np.bool_]]:
        """Look up words, and make the vectors of unknown ones from their n-grams.

        Args:
            words: Of which None and empty ones have no vector.

        Returns:
            See :meth:`look_up`.
        """
        found, known = self.look_up(words)
        if self.compose is not None:
            for place in np.flatnonzero(~known).tolist():
                if word := words[place]:
                    found[place] = self.compose(word)
                    known[place] = bool(found[place].any())
        return found, known


@dataclass(frozen=True)
class Training:
    """How fastText vectors are trained: CBOW with negative samples, and fastText's other defaults.

    Attributes:
        dimension: Numbers in a vector.
        epochs: Passes over the text.
        minimum_count: Words that occur less often are left out.
        negatives: Words drawn against each word.
        window: Words looked at on either side.
        seed: Of all that is drawn.
    """

    dimension: int = 100
    epochs: int = 3
    minimum_count: int = 10
    negatives: int = 10
    window: int = 5
    seed: int = 0


def train(
    sentences: Sequence[Sequence[str]],
    training: Training,
    *,
    method: str,
    label: str,
    key: str = "text",
) -> StaticVectors:
    """Train fastText vectors: the same ones each time, on one thread.

    Vectors that were trained in this process on the same words are not trained again.

    Args:
        sentences: Lists of words, of any length.
        training: How to train.
        method: What messages call the method.
        label: What progress tells.
        key: The method's setting that gives the text.

    Raises:
        MethodError: If gensim is not installed, or no word occurs often enough.
    """
    digest = _digest(sentences, training)
    if digest not in _kept:
        _kept[digest] = _train(sentences, training, method, label, key)
    _kept.move_to_end(digest)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[digest]


_kept: OrderedDict[bytes, StaticVectors] = OrderedDict()


def _digest(sentences: Sequence[Sequence[str]], training: Training) -> bytes:
    digest = hashlib.sha256(repr(astuple(training)).encode())
    for words in sentences:
        digest.update("\0".join(words).encode())
        digest.update(b"\1")
    return digest.digest()


def _train(
    sentences: Sequence[Sequence[str]], training: Training, method: str, label: str, key: str
) -> StaticVectors:
    fasttext = gensim_fasttext(method)
    counts: dict[str, int] = {}
    for words in sentences:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    enough = sum(count >= training.minimum_count for count in counts.values())
    if not enough:
        raise MethodError(
            f"{method} cannot learn from a text in which none of {sum(counts.values()):,} words "
            f"occurs {training.minimum_count} times; give a longer one with method.{key}, or lower "
            "method.minimum_count"
        )
    with quiet():
        model = fasttext.FastText(
            vector_size=training.dimension,
            window=training.window,
            min_count=training.minimum_count,
            negative=training.negatives,
            epochs=training.epochs,
            bucket=min(MOST_BUCKETS, BUCKETS_A_WORD * enough),
            workers=1,
            seed=training.seed % (1 << 32),
        )
        model.build_vocab_from_freq(counts, corpus_count=len(sentences))
        total = sum(counts.values())
        with bar(label, total * training.epochs) as advance:
            model.train(
                _Sentences(sentences, advance),
                total_examples=sum(-(-len(words) // SENTENCE) for words in sentences),
                total_words=total,
                epochs=training.epochs,
            )
    return of_model(model.wv)


class _Sentences:
    """Sentences cut to a length, which can be read again, and tell how far they were read."""

    def __init__(self, sentences: Sequence[Sequence[str]], advance: Callable[[int], None]) -> None:
        self._sentences = sentences
        self._advance = advance

    def __iter__(self) -> Iterator[Sequence[str]]:
        for words in self._sentences:
            for start in range(0, len(words), SENTENCE):
                yield words[start : start + SENTENCE]
            self._advance(len(words))


def of_model(vectors: Any) -> StaticVectors:
    """Take the vectors of a fastText model of gensim's."""
    counts = [vectors.get_vecattr(word, "count") for word in vectors.index_to_key]

    def compose(word: str) -> Rows:
        found: Rows = vectors.get_vector(word)
        return found

    return StaticVectors(
        places=dict(vectors.key_to_index),
        rows=np.asarray(vectors.vectors, dtype=np.float32),
        counts=np.array(counts, dtype=np.float64),
        compose=compose,
    )


def gensim_fasttext(method: str) -> Any:
    """Import gensim's fastText.

    Raises:
        MethodError: If it is not installed.
    """
    try:
        import gensim.models.fasttext
    except ImportError as error:
        raise MethodError(NO_GENSIM.format(method=method)) from error
    return gensim.models.fasttext


@contextmanager
def quiet() -> Iterator[None]:
    """Silence gensim's log, which warns of what is meant so."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
