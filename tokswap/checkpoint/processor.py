"""The processor's files of models that see and hear, and the tokens that they stand upon."""

from collections.abc import Iterator, Mapping
from typing import Any

from tokswap.checkpoint.settings import MEDIA, absent_media, patch_settings
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.turns import is_one
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.special import levels

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json",
                   "video_preprocessor_config.json")  # fmt: skip


def processor_files(base: Checkpoint) -> list[str]:
    """Name the base's processor files."""
    return [name for name in PROCESSOR_FILES if name in base.files.names]


def patch_processor(settings: Mapping[str, Any], alignment: Alignment) -> dict[str, Any]:
    """Give a processor's settings the new ids; a chat template among them is left out.

    Args:
        settings: The parsed file.
        alignment: The new vocabulary against the base's.
    """
    if alignment.own:
        return dict(settings)
    patched, _ = patch_settings(settings, alignment)
    patched.pop("chat_template", None)  # it would come before the one that was asked for
    return patched


def missing_marks(base: Checkpoint, config: Mapping[str, Any], alignment: Alignment) -> list[str]:
    """List the tokens for pictures, films and sound that the new vocabulary lacks.

    Args:
        base: The checkpoint whose body is kept.
        config: Its config, with what config.json leaves to the defaults of its class.
        alignment: The new vocabulary against the base's.

    Returns:
        Each token with the setting that names it; empty for a model of text.
    """
    if alignment.own:
        return []
    strings = alignment.base.strings
    found = {
        strings[old] or f"id {old}" if old < len(strings) else f"id {old}": key
        for key, old in absent_media(config, alignment).items()
    }
    for name in processor_files(base):
        for key, token in _token_strings(base.read_json(name)):
            if MEDIA.search(key) and not is_one(token, alignment.donor):
                found.setdefault(token, f"{key} of {name}")
    return [f"{token} ({key})" for token, key in found.items()]


def unnamed_marks(base: Checkpoint, donor: Checkpoint) -> list[str]:
    """List the names by which the base's tokenizer knows such tokens and the donor's does not.

    A processor asks the tokenizer for ``image_token`` where tokenizer_config.json names one.
    """
    names = [
        {key for key, _ in _token_strings(_tokenizer_config(side)) if MEDIA.search(key)}
        for side in (base, donor)
    ]
    return sorted(names[0] - names[1]) if processor_files(base) else []


def _tokenizer_config(side: Checkpoint) -> dict[str, Any]:
    name = "tokenizer_config.json"
    return side.read_json(name) if name in side.files.names else {}


def named_tokens(side: Checkpoint) -> dict[str, str]:
    """Return a tokenizer's special tokens by the names that chat templates know them by."""
    older = "special_tokens_map.json"
    said = side.read_json(older) if older in side.files.names else {}
    return dict(_token_strings(said)) | dict(_token_strings(_tokenizer_config(side)))


def _token_strings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for level in levels(settings):
        for key, value in level.items():
            token = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(token, str):
                yield key, token
