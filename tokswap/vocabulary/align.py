"""Which token of the base each row of the new vocabulary comes from, and which have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tokswap.vocabulary.functions import FUNCTIONS, match_function
from tokswap.vocabulary.identity import goes_on
from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.special import match_special, openers
from tokswap.vocabulary.tokens import Vocabulary

Ids = NDArray[np.int64]


class Kind(IntEnum):
    """What a row of the new vocabulary is."""

    SHARED = 0
    """An ordinary token whose bytes are a base token's: the base's row."""
    MISSING = 1
    """An ordinary token that the base lacks: filled by the method."""
    SPECIAL = 2
    """A special token with a counterpart in the base: the base's row."""
    UNMATCHED = 3
    """A special token without a counterpart: the mean of the base's rows."""
    OVERRIDE = 4
    """A token whose row the user has said."""
    UNUSED = 5
    """An id without a token: the mean, or the base's own row where its tokenizer is adopted."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The new vocabulary against the base's.

    Attributes:
        base: The base's vocabulary.
        donor: The donor's vocabulary, which becomes the new one.
        base_rows: S, rows of the base's tables.
        kind: (T,) uint8, the :class:`Kind` of each new row.
        source: (T,) int64, the base row that a new row copies, or -1.
        reasons: Why each special token has the source it has, by donor id.
        overrides: Base ids whose mean makes the row of an overridden token; empty for zeros.
        input_source: By donor id, the base row that the embedding copies instead of ``source``
            where the base has a table for each role.
    """

    base: Vocabulary
    donor: Vocabulary
    base_rows: int
    kind: NDArray[np.uint8]
    source: Ids
    reasons: Mapping[int, str]
    overrides: Mapping[int, Sequence[int]]
    input_source: Mapping[int, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """T, rows of the new vocabulary."""
        return len(self.kind)

    @cached_property
    def own(self) -> bool:
        """Whether the base gets its own tokenizer, as it is or with more tokens behind."""
        return goes_on(self.base, self.donor)

    def ids(self, *kinds: Kind) -> Ids:
        """Ids of the new rows of these kinds, in ascending order."""
        return np.flatnonzero(np.isin(self.kind, kinds)).astype(np.int64)

    @property
    def shared(self) -> int:
        """Number of ordinary donor tokens with a base counterpart, overridden ones left out."""
        return int((self.kind == Kind.SHARED).sum())

    @property
    def missing(self) -> Ids:
        """(M,) ids of the ordinary donor tokens without a base counterpart."""
        return self.ids(Kind.MISSING)

    @cached_property
    def anchors(self) -> Ids:
        """(N,) donor ids of the shared tokens that are fit to compare the two models by.

        A byte-fallback token beside a plain token for the same byte is never used in text, so its
        row was never trained; it copies the base's row but is no anchor.
        """
        shared = self.ids(Kind.SHARED)
        return np.array(
            [n for n in shared if self.donor.ids.get(self.donor.spelling[n] or b"") == n],
            dtype=np.int64,
        )

    @cached_property
    def doubles(self) -> Ids:
        """Donor ids of shared tokens that no text is cut into, for another one has their bytes.

        Beside the plain ``A`` a vocabulary with byte fallback holds ``<0x41>``. Both have the same
        counterpart in the base. Its row in the head would then stand there twice, and each of the
        two would be given half of the probability that belongs to the one that is written.
        A base that gets its own tokenizer keeps all its rows.
        """
        if self.own:
            return np.empty(0, dtype=np.int64)
        donor, source = self.donor, self.source

        def doubled(number: int) -> bool:
            written = donor.ids.get(donor.spelling[number] or b"", number)
            return written != number and bool(source[written] == source[number])

        shared = self.ids(Kind.SHARED)
        return np.array([n for n in shared.tolist() if doubled(n)], dtype=np.int64)

    @cached_property
    def pieces(self) -> dict[int, list[int]]:
        """Base ids of the pieces of each missing token, by donor id.

        A list is empty where the base cannot write any of the token's bytes.
        """
        missing = [int(number) for number in self.missing]
        found = cut(self.base, [self.donor.spelling[number] or b"" for number in missing])
        rows = self.base_rows
        inside = ([piece for piece in pieces if piece < rows] for pieces in found)
        return dict(zip(missing, inside, strict=True))

    @cached_property
    def used_base_ids(self) -> Ids:
        """Base ids of ordinary tokens that have a row: the rows that were trained on text."""
        base, rows = self.base, self.base_rows
        return np.array(sorted(n for n in base.ids.values() if n < rows), dtype=np.int64)


def align(
    base: Vocabulary,
    donor: Vocabulary,
    *,
    base_rows: int,
    rows: int,
    overrides: Mapping[int, Sequence[int]] | None = None,
    functions: Mapping[str, Sequence[str]] = FUNCTIONS,
) -> Alignment:
    """Find where each row of the new vocabulary comes from.

    Ordinary tokens are matched by their bytes, special tokens by role, then by string, then by
    what they are for; what the user overrides has the last word. Ids without a token take no base
    row but where the donor's tokens are the base's, or those with more behind: a base transplanted
    onto its own tokenizer is the same model.

    Args:
        base: The base's vocabulary.
        donor: The donor's vocabulary.
        base_rows: S, rows of the base's tables; tokens beyond them have no row.
        rows: T, rows of the new tables, at least ``len(donor)``.
        overrides: By donor id, the base ids whose mean makes its row; an empty list is zeros.
        functions: Special tokens by what they are for; empty to match none so.

    Raises:
        ValueError: If ``rows`` is less than the donor's ids need, or an override names an id that
            is not there.
    """
    overrides = dict(overrides or {})
    if rows < len(donor):
        raise ValueError(f"{rows} rows are too few for {len(donor)} donor ids")
    inside, base_inside = range(len(donor)), range(base_rows)
    if any(n not in inside or any(b not in base_inside for b in overrides[n]) for n in overrides):
        raise ValueError(f"overrides name ids beyond the vocabularies: {overrides}")
    kind = np.full(rows, Kind.UNUSED, dtype=np.uint8)
    source = np.full(rows, -1, dtype=np.int64)
    for number, spelling in enumerate(donor.spelling):
        if spelling is not None and number not in donor.special:
            found = _counterpart(base, spelling, donor.strings[number])
            shared = 0 <= found < base_rows
            kind[number] = Kind.SHARED if shared else Kind.MISSING
            source[number] = found if shared else -1

    own = goes_on(base, donor)
    base_roles = roles_with_rows(base, base_rows)
    added = {string: n for string, n in base.added_ids.items() if n < base_rows}
    matches = match_special(
        donor.roles,
        {number: donor.strings[number] for number in sorted(donor.special)},
        base_roles,
        {string: n for string, n in base.special_ids.items() if n < base_rows},
        strings_first=own,
        functions=functions,
        base_added=added,
    )
    for string, number in donor.added_ids.items():
        # Added tokens that are text to the tokenizer may have a function all the same.
        if kind[number] == Kind.MISSING:
            alike = match_function(string, functions, added, base_roles)
            if alike is not None:
                matches[number] = alike
    reasons = {}
    for number, (found_special, reason) in matches.items():
        kind[number] = Kind.UNMATCHED if found_special is None else Kind.SPECIAL
        source[number] = -1 if found_special is None else found_special
        reasons[number] = reason

    input_source = {} if own else openers(donor.roles, base_roles)
    for number, begin in input_source.items():
        reasons[number] += f"; as input of an untied base {base.strings[begin]}"
    for number in overrides:
        kind[number], source[number] = Kind.OVERRIDE, -1
        input_source.pop(number, None)
        if number in reasons:
            reasons[number] = "override"

    if own or base.spelling == donor.spelling:
        unused = np.flatnonzero(kind == Kind.UNUSED)
        unused = unused[unused < base_rows]
        source[unused] = unused
    return Alignment(base, donor, base_rows, kind, source, reasons, overrides, input_source)


def _counterpart(base: Vocabulary, spelling: bytes, string: str) -> int:
    """Return the base token with these bytes, or -1.

    Where several have them (``A`` and ``<0x41>``), the one written alike is meant.
    """
    alike = base.by_string.get(string)
    if alike is not None and alike not in base.special and base.spelling[alike] == spelling:
        return alike
    return base.ids.get(spelling, -1)


def roles_with_rows(base: Vocabulary, base_rows: int) -> dict[str, int]:
    """Return the base's roles whose tokens have a row."""
    return {role: number for role, number in base.roles.items() if number < base_rows}
