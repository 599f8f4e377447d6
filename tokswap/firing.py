"""How often new tokens of a tokenizer fire on texts, and what else is cut otherwise there."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokswap.errors import VocabularyError
from tokswap.evaluation.streaming import stream_ids
from tokswap.evaluation.texts import Text
from tokswap.progress import bar
from tokswap.vocabulary.extend import Extension
from tokswap.vocabulary.tokens import Vocabulary

Ids = NDArray[np.int64]

AT_ONCE = 1 << 16
"""Tokens that are spelt at once."""

SEARCHED = 1 << 31
"""Characters that are searched at most, tokens times text, for those that never fire: seconds."""


@dataclass(frozen=True)
class Silent:
    """A token that never fires.

    Attributes:
        occurs: How often its text stands in the texts; None where nobody looked.
        cut: The tokens that the first such place is cut into.
    """

    occurs: int | None
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class Firing:
    """How a tokenizer with more tokens cuts texts.

    Attributes:
        texts: Names of the texts.
        bytes: Their UTF-8 bytes.
        before: Tokens that the old tokenizer makes of them.
        after: Tokens that the new one makes.
        counts: How often each token that was asked for fires.
        silent: Those that never do.
        intermediates: How often tokens fire that merges need on the way.
        changed: Places that are cut otherwise than before; None where the old tokenizer cannot
            spell all of the texts.
        elsewhere: How many of these places hold none of the tokens that were asked for.
    """

    texts: tuple[str, ...]
    bytes: int
    before: int
    after: int
    counts: Mapping[str, int]
    silent: Mapping[str, Silent]
    intermediates: int
    changed: int | None
    elsewhere: int | None

    @property
    def fire(self) -> int:
        """How many of the tokens that were asked for fire at all."""
        return sum(count > 0 for count in self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "texts": list(self.texts),
            "bytes": self.bytes,
            "tokens_per_byte": {
                "before": self.before / self.bytes,
                "after": self.after / self.bytes,
            },
            "fire": self.fire,
            "counts": dict(self.counts),
            "silent": {
                token: {"occurs": said.occurs, "cut": list(said.cut)}
                for token, said in self.silent.items()
            },
            "intermediates": self.intermediates,
            "changed": self.changed,
            "elsewhere": self.elsewhere,
        }


def count_firing(
    old: Vocabulary, new: Vocabulary, extension: Extension, texts: Sequence[Text]
) -> Firing:
    """Cut texts by a tokenizer before and after tokens were added to it.

    Args:
        old: The tokenizer before.
        new: The tokenizer after.
        extension: What was added.
        texts: What to cut; all of it is held in memory.

    Raises:
        VocabularyError: If the texts do not come back from the new tokens as from the old ones.
        EvaluationError: If a text cannot be read.
    """
    documents = [(text.name, "".join(chunks)) for text in texts for chunks in text.open()]
    sides = _Side(old), _Side(new)
    counts = np.zeros(len(new), dtype=np.int64)
    asked = np.zeros(len(new), dtype=np.bool_)
    asked[list(extension.tokens.values())] = True
    made = [0, 0]
    places = [0, 0]
    spelt = True
    cuts: list[tuple[str, Ids]] = []
    with bar("count new tokens", sum(len(document) for _, document in documents)) as advance:
        for name, document in documents:
            before, after = sides[0].cut(document), sides[1].cut(document)
            made = [made[0] + len(before), made[1] + len(after)]
            counts += np.bincount(after, minlength=len(new))
            if sides[0].digest(before) == sides[1].digest(after):
                found = _changes(sides, before, after, asked)
                places = [places[0] + found[0], places[1] + found[1]]
            elif old.roles.get("unk") in before:
                spelt = False
            else:
                raise VocabularyError(
                    f"{name} does not come back from the tokens of {old.name} and the new ones; "
                    "please report this, with the list of tokens"
                )
            cuts.append((document, after))
            advance(len(document))
    times = {token: int(counts[number]) for token, number in extension.tokens.items()}
    return Firing(
        texts=tuple(dict.fromkeys(name for name, _ in documents)),
        bytes=sum(len(document.encode()) for _, document in documents),
        before=made[0],
        after=made[1],
        counts=times,
        silent=_silent(sides[1], [token for token, count in times.items() if not count], cuts),
        intermediates=int(counts[list(extension.intermediates)].sum()),
        changed=places[0] if spelt else None,
        elsewhere=places[1] if spelt else None,
    )


class _Side:
    """A tokenizer, and what its tokens stand for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        tokens = zip(vocabulary.strings, vocabulary.spelling, strict=True)
        self.spelling = [
            string.encode() if number in vocabulary.special else data or b""
            for number, (string, data) in enumerate(tokens)
        ]
        self.sizes: Ids = np.array([len(data) for data in self.spelling], dtype=np.int64)

    def cut(self, document: str) -> Ids:
        """Cut a document into tokens."""
        lists = stream_ids(iter([document]), self.vocabulary.backend)
        return np.array([number for ids in lists for number in ids], dtype=np.int64)

    def ends(self, ids: Ids) -> Ids:
        """Tell at which byte each token ends."""
        ends: Ids = np.cumsum(self.sizes[ids])
        return ends

    def digest(self, ids: Ids) -> bytes:
        """Hash what the tokens stand for."""
        digest = hashlib.blake2b(digest_size=16)
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE].tolist()
            digest.update(b"".join(self.spelling[number] for number in part))
        return digest.digest()


def _changes(
    sides: tuple[_Side, _Side], before: Ids, after: Ids, asked: NDArray[np.bool_]
) -> tuple[int, int]:
    """Count the places where two cuts of the same bytes differ.

    Args:
        sides: The tokenizers before and after.
        before: Tokens of the first one.
        after: Tokens of the second one.
        asked: By id of the second one, whether the token was asked for.

    Returns:
        The stretches between two places at which both cut, and nowhere between, that are no single
        token in common; and how many of these hold no token that was asked for.
    """
    ends = sides[0].ends(before), sides[1].ends(after)
    common = np.intersect1d(ends[0], ends[1])
    stop = [np.searchsorted(side, common, side="right") for side in ends]
    start = np.concatenate([[0], stop[1][:-1]])
    same = before[stop[0] - 1] == after[stop[1] - 1]  # of one length, so the stretch is no longer
    so_far = np.concatenate([[0], np.cumsum(asked[after])])
    holds = so_far[stop[1]] > so_far[start]
    return int((~same).sum()), int((~same & ~holds).sum())


def _silent(
    side: _Side, never: Sequence[str], cuts: Sequence[tuple[str, Ids]]
) -> dict[str, Silent]:
    """Tell why tokens never fire, as long as that does not take long."""
    size = sum(len(document) for document, _ in cuts)
    affordable = SEARCHED // max(size, 1)
    found = {token: Silent(None) for token in never}
    for token in never[:affordable]:
        occurs = sum(document.count(token) for document, _ in cuts)
        first = next(((document, ids) for document, ids in cuts if token in document), None)
        found[token] = Silent(occurs, _cut_at(side, token, *first) if first else ())
    return found


def _cut_at(side: _Side, token: str, document: str, ids: Ids) -> tuple[str, ...]:
    """Show the tokens that the first place is cut into where a token's text stands."""
    ends = side.ends(ids)
    dummy = int(ends[-1]) - len(document.encode())  # a space that the tokenizer puts in front
    start = dummy + len(document[: document.index(token)].encode())
    stop = start + len(token.encode())
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    return tuple(side.vocabulary.show(int(number)) for number in ids[first : last + 1])
