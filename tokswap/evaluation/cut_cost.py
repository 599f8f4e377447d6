"""What the changed cut of a text costs, and where: at digits, spaces, ends of lines, and so on.

The nats of each piece of a text are spread evenly over its bytes and added up by the kinds of the
bytes, for the base's own cut and for the segmentation floor. Both are cuts of one text, so a kind
has the same bytes in both, and what it costs more is what the change costs there.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokswap.evaluation.figures import Tally
from tokswap.vocabulary.kinds import BYTE_KINDS, byte_kind
from tokswap.vocabulary.tokens import Vocabulary

NO_TEXT = "no text"
"""The kind of pieces that spell nothing."""

SHARE = 0.2
"""Part of the cut's cost that is a kind's at least, where it is named as a cause."""

MATTERS = 0.01
"""Part of the own cut's bits per byte that the cut costs at least, where causes are looked for."""

_KIND_OF = tuple(byte_kind(byte) for byte in range(256))

Kinds = Mapping[str, Mapping[str, float]]
"""By kind, its ``bytes`` in the text, and the part of the text's bits per byte that is theirs."""


@dataclass(frozen=True)
class CutCost:
    """What it costs a base that a text is cut as a donor cuts it.

    Attributes:
        bits_per_byte: Of the text: the segmentation floor less the base's own cut.
        kinds: The same by kind of the text's bytes; they add up.
        of_bytes: The part of the text that each kind is.
        causes: The kinds that carry much of it, the worst first; see :func:`cut_cost`.
    """

    bits_per_byte: float
    kinds: Mapping[str, float]
    of_bytes: Mapping[str, float]
    causes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: ``bits_per_byte``, ``kinds`` with ``of_bytes`` of each, ``causes``."""
        kinds = {
            kind: {"bits_per_byte": cost, "of_bytes": self.of_bytes[kind]}
            for kind, cost in self.kinds.items()
        }
        return {"bits_per_byte": self.bits_per_byte, "kinds": kinds, "causes": list(self.causes)}


def cut_cost(own: Kinds, floor: Kinds) -> CutCost:
    """Compare the base's own cut of a text with the segmentation floor.

    A kind is a cause where the cut costs 1 % of the own cut's bits per byte or more, a fifth of
    that is the kind's, and that is more than its part of the bytes.

    Args:
        own: The figures of the kinds as the base cuts the text; see :func:`by_kind`.
        floor: The same as the donor cuts it.
    """
    names = [kind for kind in (*BYTE_KINDS, NO_TEXT) if kind in own or kind in floor]
    costs = {kind: _of(floor, kind, "of_total") - _of(own, kind, "of_total") for kind in names}
    size = sum(_of(own, kind, "bytes") for kind in names)
    parts = {kind: _of(own, kind, "bytes") / size if size else 0.0 for kind in names}
    whole, before = sum(costs.values()), sum(_of(own, kind, "of_total") for kind in names)
    causes = [
        kind
        for kind, cost in sorted(costs.items(), key=lambda item: -item[1])
        if kind != NO_TEXT and cost >= SHARE * whole and cost > parts[kind] * whole
    ]
    return CutCost(whole, costs, parts, tuple(causes if whole > MATTERS * before else ()))


def by_kind(pieces: Iterable[tuple[bytes, int, float]], size: int) -> dict[str, dict[str, float]]:
    """Add up what pieces of a text cost by the kinds of their bytes.

    Args:
        pieces: What each spells, how often it was scored, and its nats, all times together.
        size: Bytes of the text.

    Returns:
        Of each kind that is there its ``bytes``, and ``of_total``, in bits per byte of the text.
    """
    count: Counter[str] = Counter()
    nats: dict[str, float] = {}
    for spelling, times, cost in pieces:
        for kind, number in Counter(_KIND_OF[byte] for byte in spelling).items():
            count[kind] += times * number
            nats[kind] = nats.get(kind, 0.0) + cost * number / len(spelling)
        if not spelling:
            nats[NO_TEXT] = nats.get(NO_TEXT, 0.0) + cost
    return {
        kind: {"bytes": count[kind], "of_total": nats[kind] / math.log(2) / size}
        for kind in (*BYTE_KINDS, NO_TEXT)
        if kind in nats
    }


def scored_pieces(
    tally: Tally, read: Vocabulary, cut: Vocabulary
) -> Iterator[tuple[bytes, int, float]]:
    """Tell what each scored piece spells, how often it was scored, and what it costs.

    A piece that stands for text that it does not spell takes the bytes of that text.

    Args:
        tally: What was scored; the bytes of its pieces are known.
        read: The vocabulary of the model, whose tokens the pieces are.
        cut: The vocabulary that cuts the text.
    """
    reading = tally.reading
    assert reading.sizes is not None  # noqa: S101 - asked by the caller
    there = tally.times.nonzero().flatten()
    columns = (reading.ids, reading.token, reading.unknown, reading.sizes, tally.times, tally.nats)
    for number, token, unknown, size, times, nats in zip(
        *(column[there].tolist() for column in columns), strict=True
    ):
        if unknown:
            whole = b"" if token in cut.special else cut.spelling[token] or b""
            yield whole[len(whole) - size :], times, nats
        else:
            yield b"" if number in read.special else read.spelling[number] or b"", times, nats


def _of(kinds: Kinds, kind: str, name: str) -> float:
    return kinds[kind][name] if kind in kinds else 0.0
