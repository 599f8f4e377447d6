"""One text under two tokenizers: which of their tokens write the same bytes.

Every tokenizer cuts the text's bytes into stretches, one a token, that follow each other without a
gap. Where a token's own bytes stand in the text, they are its stretch. Where they do not, for a
normalizer has changed the text, the offsets that the tokenizer tells are taken. A dummy space
before the text, which is in no text, has no stretch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from tokswap.vocabulary.tokens import Vocabulary

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CutText:
    """A text as one tokenizer cuts it.

    Attributes:
        ids: (n,) the tokens.
        ends: (n,) the byte behind each token's stretch, ascending; the last is the text's length.
            A token that begins where it ends has no bytes of the text.
    """

    ids: Numbers
    ends: Numbers

    @property
    def starts(self) -> Numbers:
        """(n,) the first byte of each token's stretch."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])[: len(self.ends)]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The stretches in which one token of either tokenizer writes, in the order of the text.

    Attributes:
        first: (o,) places among the tokens of the first cut.
        second: (o,) places among the tokens of the second cut.
        length: (o,) bytes, at least 1.
    """

    first: Numbers
    second: Numbers
    length: Numbers


def cut_texts(vocabulary: Vocabulary, texts: Sequence[str]) -> list[CutText]:
    """Cut texts by a tokenizer, as it cuts them in use but for special tokens around them."""
    encodings = vocabulary.backend.encode_batch(list(texts), add_special_tokens=False)
    return [_cut(vocabulary, *pair) for pair in zip(texts, encodings, strict=True)]


def overlaps(first: CutText, second: CutText) -> Overlaps:
    """Lay two cuts of one text over each other."""
    if not len(first.ids) or not len(second.ids):
        none = np.zeros(0, np.int64)
        return Overlaps(none, none, none)
    ends = np.union1d(first.ends, second.ends)
    ends = ends[ends > 0]
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    # The token that writes a byte is the first of those that end behind it.
    in_first = np.searchsorted(first.ends, starts, side="right")
    in_second = np.searchsorted(second.ends, starts, side="right")
    return Overlaps(in_first, in_second, ends - starts)


def _cut(vocabulary: Vocabulary, text: str, encoding: Encoding) -> CutText:
    ids = np.array(encoding.ids, dtype=np.int64)
    spelt = [vocabulary.spelling[number] or b"" for number in encoding.ids]
    data, written = text.encode(), b"".join(spelt)
    dummy = written == b" " + data
    if written == data or dummy:
        ends = np.cumsum([len(token) for token in spelt], dtype=np.int64)
        return CutText(ids, np.maximum(ends - int(dummy), 0))
    return CutText(ids, _found_ends(text, data, spelt, encoding.offsets))


def _found_ends(
    text: str, data: bytes, spelt: Sequence[bytes], offsets: Sequence[tuple[int, int]]
) -> Numbers:
    """Find where tokens end in a text that is not just what they write together.

    Args:
        text: The text.
        data: Its bytes.
        spelt: The bytes of each token.
        offsets: The characters of each token, as the tokenizer tells them: those of a token that
            writes part of a character are the whole character.
    """
    sizes = [len(character.encode()) for character in text]
    byte_of = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
    ends: list[int] = []
    at = 0
    while len(ends) < len(spelt):
        token = spelt[len(ends)]
        if data.startswith(token, at):
            at += len(token)
            ends.append(at)
        elif token[:1] == b" " and data.startswith(token[1:], at):  # a space that is not in it
            at += len(token) - 1
            ends.append(at)
        else:
            last, stop = len(ends), offsets[len(ends)][1]
            while last + 1 < len(spelt) and offsets[last + 1][0] < stop:
                last += 1
                stop = max(stop, offsets[last][1])
            group = [len(part) for part in spelt[len(ends) : last + 1]]
            room, whole = max(byte_of[stop] - at, 0), max(sum(group), 1)
            ends += [at + room * sum(group[: n + 1]) // whole for n in range(len(group))]
            at += room
            ends[-1] = at
    if ends:
        ends[-1] = len(data)  # what no token writes, as spaces at the end that are stripped
    return np.array(ends, dtype=np.int64)
