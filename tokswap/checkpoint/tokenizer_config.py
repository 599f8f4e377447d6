"""What tokenizer_config.json must say otherwise than the donor's, and nothing more.

The donor's file travels byte for byte where nothing in it must change. Where something must, the
other keys keep their values and their order.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from tokswap.checkpoint.source import TEXT_CONFIGS

CLASS = "PreTrainedTokenizerFast"
"""The class that reads tokenizer.json as it is, by the name that transformers 4 and 5 know."""

NO_CODE = {"AutoTokenizer": ["", None]}
"""An ``auto_map`` that names no code: without it transformers 5 replaces some types' tokenizers.

Where an ``auto_map`` is present, it sets aside the class that it has for the model type; then it
finds that no code is to be trusted and takes ``tokenizer_class`` at its word. The empty string is
for transformers 4 and for the model types that are not replaced: both look into it, and null would
break them. Nobody is asked to trust anything.
"""

LENGTH = "model_max_length"
UNLIMITED = 1e29
"""transformers writes 1e30 for a tokenizer without a limit."""

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
PATHS = ("tokenizer_file", "vocab_file", "merges_file", "spm_file", "special_tokens_map_file")


@dataclass(frozen=True)
class Said:
    """What a tokenizer_config.json is to say.

    Attributes:
        content: All of it.
        changes: What differs from the donor's, a phrase each; empty where nothing does.
    """

    content: Mapping[str, Any]
    changes: tuple[str, ...] = ()

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The content where it differs from the donor's, or None."""
        return self.content if self.changes else None


def base_length(tokenizer_config: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """Tell how many tokens the base's tokenizer lets through.

    Args:
        tokenizer_config: Its parsed tokenizer_config.json, or nothing.
        config: Its parsed config.json.

    Returns:
        The number that tokenizer_config.json says, else the number of positions, else None.
    """
    parts = [config.get(name) for name in TEXT_CONFIGS]
    values: list[Any] = [tokenizer_config.get(LENGTH)]
    for part in (config, *parts):
        values += [part.get(name) for name in POSITIONS] if isinstance(part, Mapping) else []
    return next((int(value) for value in values if _is_limit(value)), None)


def _is_limit(value: Any) -> bool:
    return type(value) in {int, float} and 0 < value < UNLIMITED


def adopt(
    donor: Mapping[str, Any],
    base: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    known: bool = True,
    has: Callable[[str], bool] = lambda _: True,
) -> Said:
    """Take over a donor's tokenizer_config.json for another model.

    The length is the base's, for its positions are the base's. Code and paths that lie with the
    donor are not named, for they do not come along.

    Args:
        donor: The donor's parsed tokenizer_config.json, or nothing.
        base: The base's.
        config: The base's parsed config.json.
        known: Whether transformers has the tokenizer class that the donor names.
        has: Whether tokenizer.json has a token; another would get an id beyond the rows.
    """
    said, changes = copy.deepcopy(dict(donor)), []
    old, length = said.get(LENGTH), base_length(base, config)
    if old != base.get(LENGTH):
        if length is not None and old != length:
            said[LENGTH] = length
            changes.append(f"{LENGTH} {length} (the base's)" + (f" for {old}" if old else ""))
        elif length is None and _is_limit(old):
            del said[LENGTH]
            changes.append(f"{LENGTH} {old} left out (the base has no limit)")
    for name in PATHS:
        if isinstance(said.get(name), str) and _leaves(said[name]):
            del said[name]
            changes.append(f"{name} left out (a path elsewhere)")
    for name in [key for key in said if key.endswith("_token")]:
        token = said[name].get("content") if isinstance(said[name], dict) else said[name]
        if isinstance(token, str) and not has(token):
            del said[name]
            changes.append(f"{name} left out (tokenizer.json has no {token!r})")
    if said.get("auto_map"):
        del said["auto_map"]
        changes.append("auto_map left out (it names code of the donor's)")
        if not known:
            said["tokenizer_class"] = CLASS
            changes.append(f"tokenizer_class {CLASS} for {donor['tokenizer_class']}, which is code")
    return Said(said, tuple(changes))


def _leaves(path: str) -> bool:
    """Tell whether a path leads out of the folder that it is named in."""
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    return posix.is_absolute() or bool(windows.anchor) or ".." in windows.parts or path[:1] == "~"


def with_class(said: Said) -> Said:
    """Name the class that reads tokenizer.json as it is."""
    old = said.content.get("tokenizer_class")
    if old == CLASS:
        return said
    change = f"tokenizer_class {CLASS}" + (f" for {old}" if old else "")
    return Said({**said.content, "tokenizer_class": CLASS}, (*said.changes, change))


def with_no_code(said: Said) -> Said:
    """Name that class, and an ``auto_map`` without code."""
    named = with_class(said)
    return Said({**named.content, "auto_map": NO_CODE}, (*named.changes, "auto_map without code"))
