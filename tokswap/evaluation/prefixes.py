"""Windows in two parts: a prefix that is only read, and a suffix that is asked for."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Split(NamedTuple):
    """A stretch of a document.

    Attributes:
        prefix: Token ids that the model reads.
        suffix: Token ids that follow, each of which is asked for after all before it.
    """

    prefix: list[int]
    suffix: list[int]


def cut_splits(
    ids: Iterable[list[int]], start_id: int | None, window: int, stride: int
) -> Iterator[Split]:
    """Cut the tokens of one document, so that all behind the first prefix are in one suffix each.

    Args:
        ids: The document's token ids, in lists of any length.
        start_id: Put before the first token, or None.
        window: Tokens of both parts together.
        stride: Tokens of a suffix, ``1 <= stride < window``; the last one may be shorter.

    Yields:
        The stretches, in order, each with a prefix of ``window - stride`` tokens; none where the
        document has no token behind the first prefix.
    """
    before = window - stride
    held = [] if start_id is None else [start_id]
    for more in ids:
        held += more
        while len(held) >= window:
            yield Split(held[:before], held[before:window])
            del held[:stride]
    if len(held) > before:
        yield Split(held[:before], held[before:])
