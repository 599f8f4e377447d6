"""Processor files and the tokens of pictures and sound, in the shapes that transformers has."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from transformers import (
    Gemma3Config,
    Idefics3Config,
    LlavaConfig,
    Qwen2VLConfig,
    SmolVLMConfig,
)

from tokswap.checkpoint.processor import (
    missing_marks,
    named_tokens,
    patch_processor,
    unnamed_marks,
)
from tokswap.checkpoint.settings import patch_settings
from tokswap.checkpoint.source import Checkpoint
from tokswap.vocabulary.align import Alignment, align

Build = Callable[..., Checkpoint]

BASE = ["<s>", "</s>", "a", "b", "<image>", "<video>", "<boi>", "<eoi>", "<audio>"]
SEES = ["b", "a", "<audio>", "<eoi>", "<boi>", "<video>", "<image>", "<s>", "</s>", "more"]
BLIND = ["b", "a", "<s>", "</s>", "<eoi>"]
CONFIGS: dict[str, tuple[Any, dict[str, int], set[str]]] = {
    "gemma3": (
        Gemma3Config,
        {"image_token_index": 4, "boi_token_index": 6, "eoi_token_index": 7},
        {"<image> (image_token_index)", "<boi> (boi_token_index)"},
    ),
    "llava": (LlavaConfig, {"image_token_index": 4}, {"<image> (image_token_index)"}),
    "qwen2_vl": (
        Qwen2VLConfig,
        {
            "image_token_id": 4,
            "video_token_id": 5,
            "vision_start_token_id": 6,
            "vision_end_token_id": 7,
        },
        {
            "<image> (image_token_id)",
            "<video> (video_token_id)",
            "<boi> (vision_start_token_id)",
        },
    ),
    "idefics3": (Idefics3Config, {"image_token_id": 4}, {"<image> (image_token_id)"}),
    "smolvlm": (SmolVLMConfig, {"image_token_id": 4}, {"<image> (image_token_id)"}),
}


def tokenizer(tokens: list[str]) -> dict[str, Any]:
    """Write a word-level tokenizer.json; what stands in angle brackets is special."""
    added = [
        {"id": n, "content": t, "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for n, t in enumerate(tokens) if t.startswith("<")
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0", "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "vocab": {t: n for n, t in enumerate(tokens)}, "merges": []},
    }  # fmt: skip


@pytest.fixture
def pair(checkpoint: Build) -> Callable[..., tuple[Checkpoint, Checkpoint, Alignment]]:
    def build(
        donor: list[str], config: dict[str, Any] | None = None, **files: Any
    ) -> tuple[Checkpoint, Checkpoint, Alignment]:
        roles = {"bos_token": "<s>", "eos_token": "</s>"}
        files = {
            "tokenizer_config__json": roles,
            "config__json": config or {},
            "tokenizer__json": tokenizer(BASE),
        } | files
        base = checkpoint("base", **files)
        other = checkpoint("donor", tokenizer__json=tokenizer(donor), tokenizer_config__json=roles)
        rows = len(BASE), len(donor)
        aligned = align(base.vocabulary, other.vocabulary, base_rows=rows[0], rows=rows[1])
        return base, other, aligned

    return build


def shape_of(name: str) -> dict[str, Any]:
    """Take transformers' own config with its ids and sizes set to the small vocabulary's."""
    kind, ids, _ = CONFIGS[name]
    said: dict[str, Any] = json.loads(kind().to_json_string(use_diff=False)) | ids
    said["text_config"] |= {"vocab_size": len(BASE), "bos_token_id": 0, "eos_token_id": 1}
    said["text_config"] |= {"pad_token_id": None}
    said.pop("_pad_token_id", None)
    return said


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_sees_is_remapped(name: str, pair: Callable[..., Any]) -> None:
    kind, ids, _ = CONFIGS[name]
    base, _, aligned = pair(SEES, shape_of(name))
    assert missing_marks(base, base.config, aligned) == []
    patched, dropped = patch_settings(base.config, aligned)
    assert dropped == []
    wanted = shape_of(name) | {key: SEES.index(BASE[old]) for key, old in ids.items()}
    wanted["text_config"] |= {"vocab_size": len(SEES), "bos_token_id": 7, "eos_token_id": 8}
    assert patched == wanted
    kind(**patched)  # it loads


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_blind_donor_lacks_is_named(name: str, pair: Callable[..., Any]) -> None:
    kind, _, lacking = CONFIGS[name]
    base, _, aligned = pair(BLIND, shape_of(name))
    assert set(missing_marks(base, base.config, aligned)) == lacking
    kind(**patch_settings(base.config, aligned)[0])  # for text alone it loads all the same


def test_tokens_that_only_a_processor_names(pair: Callable[..., Any]) -> None:
    files = {
        "processor_config__json": {
            "processor_class": "LlavaProcessor",
            "image_token": {"content": "<image>", "special": True},
            "pad_token": "<s>",
            "audio_token": "a b",
        },
        "preprocessor_config__json": {"eoi_token": "<eoi>", "size": {"height": 336}},
    }
    base, _, aligned = pair(BLIND, **files)
    assert missing_marks(base, base.config, aligned) == [
        "<image> (image_token of processor_config.json)",
        "a b (audio_token of processor_config.json)",
    ]


def test_a_text_model_misses_nothing(pair: Callable[..., Any]) -> None:
    base, donor, aligned = pair(BLIND, {"eos_token_id": 1, "vocab_size": len(BASE)})
    assert missing_marks(base, base.config, aligned) == []
    assert unnamed_marks(base, donor) == []


def test_ids_in_a_processors_file(pair: Callable[..., Any]) -> None:
    _, _, aligned = pair(SEES)
    said = {
        "processor_class": "X",
        "image_token": "<image>",
        "image_token_id": 4,
        "image_seq_length": 4,
        "kwargs": {"audio_token_id": 8, "size": {"height": 4}},
        "chat_template": "the base's",
    }
    assert patch_processor(said, aligned) == {
        "processor_class": "X",
        "image_token": "<image>",
        "image_token_id": 6,
        "image_seq_length": 4,
        "kwargs": {"audio_token_id": 2, "size": {"height": 4}},
    }


def test_a_processor_on_its_own_tokenizer_is_left_alone(pair: Callable[..., Any]) -> None:
    base, _, aligned = pair(BASE)
    said = {"image_token_id": 4, "chat_template": "x", "image_token": "no such"}
    assert patch_processor(said, aligned) == said
    assert missing_marks(base, base.config, aligned) == []


def test_names_that_the_processor_may_ask_for(checkpoint: Build) -> None:
    extra = {"image_token": "<image>", "boi_token": "<boi>", "think_token": "<t>"}
    base = checkpoint(
        "base",
        tokenizer_config__json={"eos_token": "</s>", "extra_special_tokens": extra},
        processor_config__json={},
    )
    donor = checkpoint("donor", tokenizer_config__json={"image_token": "<image>"})
    assert unnamed_marks(base, donor) == ["boi_token"]
    assert unnamed_marks(donor, base) == []


def test_names_that_templates_know_tokens_by(checkpoint: Build) -> None:
    side = checkpoint(
        tokenizer_config__json={
            "bos_token": {"content": "<s>", "special": True},
            "pad_token": None,
            "add_bos_token": True,
            "extra_special_tokens": {"image_token": "<image>"},
        },
        special_tokens_map__json={"bos_token": "<older>", "eos_token": "</s>"},
    )
    assert named_tokens(side) == {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<image>"}
