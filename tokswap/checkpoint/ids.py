"""The new ids of the base's tokens, for the settings that name tokens by their ids."""

from functools import cached_property

from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.special import ROLES


class TokenIds:
    """The new ids of the base's tokens."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        self.same = alignment.own
        self._new: dict[int, int] = {}
        for number, sources in alignment.overrides.items():
            if len(sources) == 1:
                self._new.setdefault(sources[0], number)
        for kind in (Kind.SPECIAL, Kind.SHARED, Kind.UNUSED):
            for number in alignment.ids(kind).tolist():
                source = int(alignment.source[number])
                if source >= 0:
                    self._new.setdefault(source, number)

    def new(self, old: int, role: str | None = None) -> int | None:
        """Return the new id of a base id; None where there is none.

        The role that the setting names comes first, then the token that took the id's row, then
        any role that the id's token plays, and last the added token that is written alike.
        """
        base, donor = self.alignment.base, self.alignment.donor
        if role in donor.roles and base.roles.get(role or "") == old:
            return donor.roles[role or ""]
        if old in self._new:
            return self._new[old]
        if self.same:  # an id beyond the rows, which means there what it meant before
            return old
        for other in ROLES:
            if base.roles.get(other) == old and other in donor.roles:
                return donor.roles[other]
        return donor.by_string.get(base.strings[old]) if old in self._added else None

    @cached_property
    def _added(self) -> frozenset[int]:
        base = self.alignment.base
        return base.special | frozenset(base.added_ids.values())


def is_id(value: object) -> bool:
    """Tell whether a value is a token's id: no flag, and no negative number, which stands for none.

    A negative id marks a place, such as the images' of early Phi models.
    """
    return type(value) is int and value >= 0
