"""Which vocabulary this is, whatever the file that holds it looks like.

A fine-tune saves its tokenizer.json anew, with other settings and another order of keys; its tokens
are the same all the same. So a vocabulary is known by its tokens: a number for each, and a hash of
them all.
"""

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tokswap.vocabulary.tokens import Vocabulary

Hashes = NDArray[np.int32]


_known: WeakKeyDictionary[Vocabulary, Hashes] = WeakKeyDictionary()
"""What was found of vocabularies that are in use: they are compared several times."""


def token_hashes(vocabulary: Vocabulary) -> Hashes:
    """Give each id a number that stands for its token.

    31 bits hash the token's bytes, the lowest bit is whether tokenizer.json calls it special (the
    roles that other files give to tokens do not count); 0 is an id without a token.

    Returns:
        One number for each id from 0 to the highest one in use; an array to read only.
    """
    if vocabulary in _known:
        return _known[vocabulary]
    added = vocabulary.specification.get("added_tokens") or []
    special = {token["content"] for token in added if token.get("special")}
    found = np.zeros(len(vocabulary), dtype=np.uint32)
    for number, spelling in enumerate(vocabulary.spelling):
        if spelling is not None:
            digest = hashlib.blake2b(spelling, digest_size=4).digest()
            bits = max(int.from_bytes(digest, "little") >> 1, 1)
            found[number] = bits << 1 | (vocabulary.strings[number] in special)
    return _known.setdefault(vocabulary, found.view(np.int32))


def content_hash(vocabulary: Vocabulary) -> str:
    """Hash the tokens of a vocabulary with their ids: equal for every file that holds the same."""
    digest = hashlib.sha256()
    for number, spelling in zip(token_hashes(vocabulary), vocabulary.spelling, strict=True):
        data = spelling or b""
        digest.update(int(number).to_bytes(4, "little", signed=True))
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return digest.hexdigest()


def goes_on(base: Vocabulary, donor: Vocabulary) -> bool:
    """Tell whether a vocabulary is another one as it is, or with more tokens behind its last.

    Then each id means what it meant, and so do the rows without a token.
    """
    if base.sha256 == donor.sha256:
        return True
    ids = len(base)
    added = {string: n for string, n in donor.added_ids.items() if n < ids}
    return (
        donor.strings[:ids] == base.strings
        and donor.spelling[:ids] == base.spelling
        and {number for number in donor.special if number < ids} == base.special
        and donor.roles == base.roles
        and added == base.added_ids
    )


@dataclass(frozen=True, eq=False)
class Difference:
    """How the tokens here differ from those there.

    Attributes:
        changed: Ids of one token here and another there, ascending.
        added: Ids of a token here and none there.
        removed: Ids of a token there and none here.
        flagged: Ids of the same token, special on one side and not on the other.
    """

    changed: NDArray[np.int64]
    added: NDArray[np.int64]
    removed: NDArray[np.int64]
    flagged: NDArray[np.int64]


def difference(here: Hashes, there: Hashes) -> Difference:
    """Compare two vocabularies id by id.

    Args:
        here: From :func:`token_hashes`.
        there: The same of the other vocabulary; the shorter of both goes on without tokens.
    """
    size = max(len(here), len(there))
    a, b = (np.pad(side.view(np.uint32), (0, size - len(side))) for side in (here, there))
    both = (a != 0) & (b != 0)
    return Difference(
        changed=np.flatnonzero(both & (a >> 1 != b >> 1)),
        added=np.flatnonzero((a != 0) & (b == 0)),
        removed=np.flatnonzero((a == 0) & (b != 0)),
        flagged=np.flatnonzero(both & (a >> 1 == b >> 1) & (a != b)),
    )
