"""Token ids of a document of any length, in bounded memory, as if it were encoded at once.

A long document is encoded in pieces that overlap. A cut in the text disturbs the tokens near it:
words are torn, a dummy prefix appears, a look-ahead sees the end. Where the encodings of two
overlapping pieces show the same tokens at the same places over a run, both have come clear of
their cuts, and from there on the second piece takes over.

Why that is enough: a pre-tokenizer goes from left to right, so from a common word boundary on it
goes the same way. Within a word, a sequence of BPE tokens is the encoding of its text if each two
neighbours are the encoding of theirs, and neighbours on both sides of the seam stand in the run.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from tokswap.errors import EvaluationError

PIECE = 1 << 16  # characters taken in at once
RUN = 8  # tokens on each side of the seam that must agree

# A token and its place: id, start and end in the document (characters), whether it begins a word.
_Label = tuple[int, int, int, bool]


@dataclass(frozen=True)
class _Piece:
    """A stretch of the document and its encoding."""

    begin: int
    text: str
    labels: list[_Label]

    @property
    def end(self) -> int:
        return self.begin + len(self.text)


def stream_ids(
    chunks: Iterator[str], tokenizer: Tokenizer, *, piece: int = PIECE
) -> Iterator[list[int]]:
    """Encode one document, without special tokens, while it is being read.

    Args:
        chunks: The document's text.
        tokenizer: Without truncation and padding.
        piece: Characters to take in at once; a document shorter than that is encoded in one go.
            Memory grows with it, and with the longest stretch of text that offers no seam.

    Yields:
        Token ids; all lists together are ``tokenizer.encode(text, add_special_tokens=False).ids``.

    Raises:
        EvaluationError: If a stretch of text cannot be tokenized piece by piece.
        ValueError: If the tokenizer truncates or pads.
    """
    if tokenizer.truncation or tokenizer.padding:
        raise ValueError("the tokenizer truncates or pads: call no_truncation() and no_padding()")
    words = _splits_words(tokenizer)
    parts = _parts(chunks, piece)
    old = _encode(tokenizer, 0, next(parts, ""))
    first = 0  # the first token of `old` that was not yet given out
    for more in parts:
        new, seam = _continue(tokenizer, old, first, more, words)
        if seam is None:
            raise EvaluationError(
                f"characters {old.begin} to {new.end} of a document are tokenized differently in "
                "pieces and as a whole; split the document there"
            )
        last, follower = seam
        yield [label[0] for label in old.labels[first:last]]
        old, first = new, follower
    yield [label[0] for label in old.labels[first:]]


def _continue(
    tokenizer: Tokenizer, old: _Piece, first: int, more: str, words: bool
) -> tuple[_Piece, tuple[int, int] | None]:
    """Encode the next piece, with the end of the old one before it, or all of it.

    Returns the new piece, and the seam: the end of the old tokens, the first of the new ones.
    """
    start = len(old.text) - max(64, len(old.text) // 16)
    if start > 0:
        new = _encode(tokenizer, old.begin + start, old.text[start:] + more)
        if (seam := _seam(old, new, first, words)) is not None:
            return new, seam
    # Take along all the old text, as in the middle of a very long word. Both pieces begin alike, so
    # all is well as long as the tokens given out before stand in the new one too; none is added.
    new = _encode(tokenizer, old.begin, old.text + more)
    return new, (first, first) if old.labels[:first] == new.labels[:first] else None


def _seam(old: _Piece, new: _Piece, first: int, words: bool) -> tuple[int, int] | None:
    """Find the token, by its index in both pieces, around which they agree.

    It begins a word where the tokenizer makes words: begun inside a word, a pre-tokenizer may take
    the rest of it for a word of another kind. Of several, the one farthest from the ends of the
    overlap is taken.
    """
    begin = max(first, RUN, bisect_left(old.labels, new.begin, key=lambda label: label[1]))
    # Bytes of one character share its place: the last of them stands for it.
    places = {old.labels[i][1]: i for i in range(begin, len(old.labels) - RUN + 1)}
    middle = (new.begin + old.end) / 2
    candidates = []
    for index in range(RUN, len(new.labels) - RUN + 1):
        if new.labels[index][1] >= old.end:
            break
        if new.labels[index][1] in places:
            candidates.append(index)
    for index in sorted(candidates, key=lambda index: abs(new.labels[index][1] - middle)):
        place = places[new.labels[index][1]]
        if words and not new.labels[index][3]:
            continue
        if old.labels[place - RUN : place + RUN] == new.labels[index - RUN : index + RUN]:
            return place, index
    return None


def _encode(tokenizer: Tokenizer, begin: int, text: str) -> _Piece:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    labels: list[_Label] = []
    before: int | None = None
    for token, (start, end), word in zip(
        encoding.ids, encoding.offsets, encoding.word_ids, strict=True
    ):
        labels.append((token, begin + start, begin + end, word != before))
        before = word
    return _Piece(begin, text, labels)


def _splits_words(tokenizer: Tokenizer) -> bool:
    """Tell by trying whether there is a pre-tokenizer that cuts text into words."""
    if tokenizer.pre_tokenizer is None:
        return False
    return len(tokenizer.pre_tokenizer.pre_tokenize_str("one two, 3.\n\nfour")) > 1


def _parts(chunks: Iterator[str], size: int) -> Iterator[str]:
    """Join and cut chunks of any length into parts of one size; the last may be shorter."""
    held: list[str] = []
    length = 0
    for chunk in chunks:
        held.append(chunk)
        length += len(chunk)
        if length >= size:
            text = "".join(held)
            cut = length - length % size
            yield from (text[i : i + size] for i in range(0, cut, size))
            held, length = [text[cut:]], length - cut
    if length:
        yield "".join(held)
