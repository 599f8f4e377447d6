"""Tokenizers sampled from text on the fly, one for each step of a training.

A tokenizer is a Unigram model over the substrings of the words in the last few batches, each as
probable as it is frequent and long, with noise: some tokenizers cut text in the usual way, some
strangely, and the network learns from all of them (Minixhofer et al. 2024, Algorithm 1).
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tokswap.hypernet.training.substrings import count_substrings
from tokswap.vocabulary.spelling import byte_alphabet

if TYPE_CHECKING:
    import regex
    from tokenizers import Tokenizer

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""How text is cut into words, within which tokens stay: as GPT-2 does, marks being letters."""
LONGEST = 15
"""Bytes of the longest tokens."""
NOISE = 1e-5
"""Median of the noise's standard deviation, beside probabilities that add up to 1."""


@dataclass(frozen=True, eq=False)
class SampledTokenizer:
    """A tokenizer that was sampled.

    Attributes:
        tokens: By id, the bytes of each token.
        backend: Cuts text.
    """

    tokens: list[bytes]
    backend: "Tokenizer"


@dataclass(eq=False)
class TokenizerSampler:
    """Samples tokenizers from the texts that were pushed last.

    Attributes:
        size: Tokens of a tokenizer, the 256 single bytes among them.
        batches: How many batches of text are remembered.
        spread: Standard deviation of the logarithm of the noise's own; 0 for the same noise always.
        noise: Median of the noise's standard deviation; 0 for none.
        stride: Tokens begin at each so manyth byte of a word.
    """

    size: int
    batches: int = 16
    spread: float = 4.0
    noise: float = NOISE
    stride: int = 4
    _words: Counter[bytes] = field(default_factory=Counter)
    _queue: deque[Counter[bytes]] = field(default_factory=deque)

    def push(self, texts: Sequence[str]) -> None:
        """Take a batch of texts into account, and forget the oldest where there are too many."""
        found = Counter(word.encode() for text in texts for word in _words().findall(text))
        self._queue.append(found)
        self._words.update(found)
        if len(self._queue) > self.batches:
            self._words.subtract(self._queue.popleft())
            self._words = +self._words

    def sample(self, rng: np.random.Generator) -> SampledTokenizer:
        """Sample a tokenizer.

        Args:
            rng: The only source of randomness.
        """
        found = count_substrings(self._words, longest=LONGEST, stride=self.stride)
        score = found.counts * found.lengths
        share = score / max(score.sum(), 1.0)
        deviation = self.noise * math.exp(rng.normal(0.0, self.spread))
        share = share + rng.normal(0.0, 1.0, len(share)) * deviation
        share[found.lengths == 1] = 0.0  # single bytes are there in any case
        wanted = min(self.size - 256, int((share > 0).sum()))
        best = np.argpartition(-share, wanted - 1)[:wanted] if wanted > 0 else np.zeros(0, np.int64)
        best = best[np.lexsort((found.starts[best], found.lengths[best], -share[best]))]
        scores = np.log(share[best])
        least = float(scores[-1]) if len(scores) else 0.0
        tokens = [bytes([byte]) for byte in range(256)] + found.spelt(best)
        return SampledTokenizer(tokens, unigram(tokens, [least] * 256 + scores.tolist()))


def unigram(tokens: Sequence[bytes], scores: Sequence[float]) -> "Tokenizer":
    """Make a Unigram tokenizer whose tokens are bytes, and stay within words.

    Args:
        tokens: The bytes of each token, the 256 single bytes among them.
        scores: The logarithm of each one's probability.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    table = _letters()
    spelt = [token.decode("latin-1").translate(table) for token in tokens]
    tokenizer = Tokenizer(models.Unigram(list(zip(spelt, scores, strict=True))))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def _words() -> "regex.Pattern[str]":
    import regex

    return regex.compile(WORDS)


@cache
def _letters() -> dict[int, str]:
    return dict(byte_alphabet())
