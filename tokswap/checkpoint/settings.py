"""Sizes and token ids in the settings beside the weights: config.json, generation_config.json."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokswap.checkpoint.ids import TokenIds, is_id
from tokswap.checkpoint.source import TEXT_CONFIGS
from tokswap.errors import CheckpointError
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.special import ROLES

ID_KEYS = ("_token_id", "_token_index", "_token_ids")
ID_MAPS = ("vocabulary_map", "lang_to_id", "task_to_id")
"""Settings that hold ids by their tokens' names."""

SIZES = re.compile(
    r"((text|text_encoder|src|tgt|input|output|decoder|n|num|padded|unpadded|org)_)?"
    r"vocab(ulary)?(_size)?(_per_layer_input)?"
)
"""Names of the vocabulary's size; those of types, entities and sounds are none of them."""

MEDIA = re.compile(
    r"(?:^|_)(?:image|images|img|video|vision|visual|audio|speech|media|frame|[be]o[iav])(?:_|$)"
)
"""What the names of settings about pictures, films and sound have in common."""

ABSENT = -1
"""An id that no text has: what stands for a picture where the new vocabulary has no token for it.

The configs of models that see do not load with null there.
"""

Lost = Callable[[str], None]


def patch_settings(
    settings: Mapping[str, Any], alignment: Alignment
) -> tuple[dict[str, Any], list[str]]:
    """Give a config the new vocabulary's size and ids, at every nesting level.

    Sizes are the values of ``vocab_size`` and its kin that equal the base's rows; ids are the
    values of ``*_token_id`` and ``*_token_index`` keys and of the lists of ids that
    generation_config.json may hold. A role that the base leaves open (null) stays open, and so do
    flags and negative numbers, which are no ids. A nested config of pictures or sound is left as
    it is, and one with a vocabulary of its own keeps the ids that lie within it.

    Args:
        settings: The parsed config.json or generation_config.json.
        alignment: The new vocabulary against the base's.

    Returns:
        The patched settings, and a line for each id that has no counterpart and was dropped.

    Raises:
        CheckpointError: If a setting that holds ids has a form that is not known.
    """
    patched = copy.deepcopy(dict(settings))
    ids = TokenIds(alignment)
    dropped: list[str] = []
    for level, beyond in _levels(patched, alignment.base_rows):
        for key, value in list(level.items()):
            if SIZES.fullmatch(key) and type(value) is int and value == alignment.base_rows:
                level[key] = alignment.rows
            elif key.endswith(ID_KEYS):
                _patch_ids(level, key, ids, beyond, dropped.append)
            elif key in OTHERS and isinstance(value, OTHERS[key][0]):
                try:
                    level[key] = OTHERS[key][1](key, value, ids, dropped.append)
                except (TypeError, ValueError) as error:
                    raise CheckpointError(
                        f"{alignment.base.name}: {key} holds {str(value)[:60]}, which is none of "
                        "the forms that transformers reads; mend it"
                    ) from error
    if not ids.same:
        patched.pop("tokenizer_class", None)  # it names the class of the base's tokenizer
        code = patched.get("auto_map")
        if isinstance(code, dict) and code.pop("AutoTokenizer", None) is not None and not code:
            del patched["auto_map"]
    return patched, dropped


def absent_media(settings: Mapping[str, Any], alignment: Alignment) -> dict[str, int]:
    """List the ids of pictures, films and sound that have no counterpart, by their keys.

    Args:
        settings: The parsed config.json of the base.
        alignment: The new vocabulary against the base's.
    """
    ids = TokenIds(alignment)
    found: dict[str, int] = {}
    for level, beyond in _levels(dict(settings), alignment.base_rows):
        for key, value in level.items():
            if key == "vocabulary_map" and isinstance(value, dict):
                entries = list(value.values())
            elif key.endswith(ID_KEYS) and MEDIA.search(key):
                entries = value if isinstance(value, list) else [value]
            else:
                continue
            lost = [n for n in entries if is_id(n) and n >= beyond and ids.new(n) is None]
            found |= {key: lost[0]} if lost else {}
    return found


def merged(said: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Add settings to others, at every level; they have the last word."""
    both = dict(said)
    for key, value in more.items():
        inner = both.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            both[key] = merged(inner, value)
        else:
            both[key] = value
    return both


def _levels(
    level: dict[str, Any], rows: int, name: str = ""
) -> Iterator[tuple[dict[str, Any], int]]:
    """Walk through a config and those nested in it, outermost first.

    Yields:
        Each config, and the id from which on its ids are this vocabulary's: 0, or the size of the
        config's own vocabulary where that is another one.
    """
    own = level.get("vocab_size")
    other = bool(name) and name not in TEXT_CONFIGS and type(own) is int and own != rows
    yield level, own if other and type(own) is int else 0
    for key, value in level.items():
        if isinstance(value, dict) and key not in ID_MAPS and not MEDIA.search(key):
            yield from _levels(value, rows, key)


def _patch_ids(level: dict[str, Any], key: str, ids: TokenIds, beyond: int, lost: Lost) -> None:
    """Change the id, or the ids, of one key; a role's list that is left empty is dropped."""
    value = level[key]
    listed = value if isinstance(value, list) else [value]
    old = [number for number in listed if is_id(number)]
    if not old or all(number < beyond for number in old):
        return
    role = key.partition("_token_i")[0]
    new: list[int] = []
    for number in old:
        mapped = ids.new(number, role.rpartition("_")[2])
        if mapped is None:
            lost(f"{key} {number}")
        elif mapped not in new:
            new.append(mapped)
    own = ids.alignment.donor.roles.get(role) if role in ROLES else None
    # A base on its own tokenizer keeps what it says, even where the tokenizer says another token.
    if own is not None and own not in new and not ids.same:
        new.insert(0, own)
    if not isinstance(value, list):
        level[key] = new[0] if new else (ABSENT if MEDIA.search(key) else None)
    elif new or role not in ROLES:
        level[key] = [*new, *(number for number in listed if not is_id(number))]
    else:  # generation would never end with an empty list of ends
        lost(f"all of {key}")
        del level[key]


def _new_or_lost(key: str, old: Any, ids: TokenIds, lost: Lost) -> Any:
    if not is_id(old):
        return old
    new = ids.new(old)
    if new is None:
        lost(f"{key} {old}")
    return new


def _patch_list(key: str, value: list[Any], ids: TokenIds, lost: Lost) -> list[Any]:
    found = [_new_or_lost(key, old, ids, lost) for old in value]
    return [new for new in found if new is not None]


def _patch_map(key: str, value: dict[str, Any], ids: TokenIds, lost: Lost) -> dict[str, Any]:
    changed = {name: _new_or_lost(key, old, ids, lost) for name, old in value.items()}
    return {name: new for name, new in changed.items() if new is not None}


def _patch_sequences(key: str, value: list[Any], ids: TokenIds, lost: Lost) -> list[Any]:
    """Change sequences of ids, or lists of such that stand for one another."""
    found = []
    for old in value:
        if old and isinstance(old, list) and isinstance(old[0], list):
            new: Any = _patch_sequences(key, old, ids, lost) or None
        else:
            new = _sequence(key, old, ids, lost)
        found += [] if new is None else [new]
    return found


def _patch_biases(key: str, value: list[Any], ids: TokenIds, lost: Lost) -> list[Any]:
    """Change JSON's form of {(ids): bias}, which is [[ids, bias]]."""
    pairs = [(_sequence(key, old, ids, lost), bias) for old, bias in value]
    return [[new, bias] for new, bias in pairs if new is not None]


def _patch_places(key: str, value: list[Any], ids: TokenIds, lost: Lost) -> list[Any]:
    """Change [[place, id]], where an id of null leaves the place open."""
    pairs = [(place, old, _new_or_lost(key, old, ids, lost)) for place, old in value]
    return [[place, new] for place, old, new in pairs if old is None or new is not None]


def _sequence(key: str, old: Any, ids: TokenIds, lost: Lost) -> list[Any] | None:
    found = [ids.new(number) if is_id(number) else number for number in old]
    if None in found:
        lost(f"{key} {old}")
        return None
    return found


OTHERS: Mapping[str, tuple[type, Callable[[str, Any, TokenIds, Lost], Any]]] = {
    "suppress_tokens": (list, _patch_list),
    "begin_suppress_tokens": (list, _patch_list),
    "bad_words_ids": (list, _patch_sequences),
    "force_words_ids": (list, _patch_sequences),
    "sequence_bias": (list, _patch_biases),
    "forced_decoder_ids": (list, _patch_places),
} | dict.fromkeys(ID_MAPS, (dict, _patch_map))
"""Settings that hold ids in other shapes: the type that they have where they are set, and how."""


def add_ends(
    settings: Mapping[str, Any], ends: list[int], default: int | None = None
) -> dict[str, Any]:
    """Let generation end at these tokens too.

    Args:
        settings: The parsed generation_config.json, or an empty one.
        ends: Ids of tokens that end a turn.
        default: The end of text, which stays one where the settings name none.

    Returns:
        The settings, changed only where one of the tokens is no end yet.
    """
    said = settings.get("eos_token_id")
    known = said if isinstance(said, list) else [said]
    known = [n for n in known if is_id(n)] or ([] if default is None else [default])
    if all(number in known for number in ends) and said is not None:
        return dict(settings)
    new = list(dict.fromkeys([*known, *ends]))
    return {**settings, "eos_token_id": new if len(new) > 1 else new[0]}
