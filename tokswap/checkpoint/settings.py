"""Sizes and token ids in the settings beside the weights: config.json, generation_config.json."""

import copy
from collections.abc import Mapping
from typing import Any

from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.special import ROLES, levels

ID_KEYS = ("_token_id", "_token_index")
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens")
ID_SEQUENCES = ("bad_words_ids", "force_words_ids")


class TokenIds:
    """The new ids of the base's tokens."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
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
        """Return the new id of a base id, by its role first; None where there is none."""
        base, donor = self.alignment.base.roles, self.alignment.donor.roles
        if role in donor and base.get(role or "") == old:
            return donor[role or ""]
        return self._new.get(old)


def patch_settings(
    settings: Mapping[str, Any], alignment: Alignment
) -> tuple[dict[str, Any], list[str]]:
    """Give a config the new vocabulary's size and ids, at every nesting level.

    Sizes are the values of ``vocab_size`` that equal the base's rows; ids are the values of
    ``*_token_id`` and ``*_token_index`` keys and of the lists of ids that generation_config.json
    may hold. A role that the base leaves open (null) stays open.

    Args:
        settings: The parsed config.json or generation_config.json.
        alignment: The new vocabulary against the base's.

    Returns:
        The patched settings, and a line for each id that has no counterpart and was dropped.
    """
    patched = copy.deepcopy(dict(settings))
    ids = TokenIds(alignment)
    dropped: list[str] = []
    for level in levels(patched):
        assert isinstance(level, dict)  # noqa: S101 - a deep copy of JSON holds nothing else
        if level.get("vocab_size") == alignment.base_rows:
            level["vocab_size"] = alignment.rows
        for key, value in level.items():
            if key.endswith(ID_KEYS) and value is not None:
                level[key] = _patch_ids(key, value, ids, dropped)
            elif key in ID_LISTS and isinstance(value, list):
                level[key] = [n for old in value if (n := ids.new(old)) is not None]
                dropped += [f"{key} {old}" for old in value if ids.new(old) is None]
            elif key in ID_SEQUENCES and isinstance(value, list):
                sequences = [[ids.new(old) for old in sequence] for sequence in value]
                level[key] = [sequence for sequence in sequences if None not in sequence]
                dropped += [
                    f"{key} {v}" for v, s in zip(value, sequences, strict=True) if None in s
                ]
    if alignment.base.sha256 != alignment.donor.sha256:
        patched.pop("tokenizer_class", None)  # it names the class of the base's tokenizer
        if isinstance(patched.get("auto_map"), dict):
            patched["auto_map"].pop("AutoTokenizer", None)  # it names that tokenizer's code
    return patched, dropped


def _patch_ids(key: str, value: Any, ids: TokenIds, dropped: list[str]) -> Any:
    role = key.removesuffix("_token_id")
    old = value if isinstance(value, list) else [value]
    new: list[int] = []
    for number in old:
        mapped = ids.new(number, role)
        if mapped is None:
            dropped.append(f"{key} {number}")
        elif mapped not in new:
            new.append(mapped)
    base, donor = ids.alignment.base, ids.alignment.donor
    own = donor.roles.get(role) if role in ROLES else None
    # A base on its own tokenizer keeps what it says, even where the tokenizer says another token.
    if own is not None and own not in new and base.sha256 != donor.sha256:
        new.insert(0, own)
    if isinstance(value, list):
        return new
    return new[0] if new else None
