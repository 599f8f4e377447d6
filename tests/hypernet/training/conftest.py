"""Tiny random bases of several kinds, written and frozen once."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from tests.vocabulary.conftest import CORPUS, SMALL, write_tokenizer
from tokswap.hypernet.training.freezing import freeze
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.recipe import TrainRecipe, make_train_recipe

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "tied": ("LlamaForCausalLM", "byte-level", {**SIZES, "tie_word_embeddings": True}),
    "untied": (
        "LlamaForCausalLM",
        "metaspace",
        {**SIZES, "tie_word_embeddings": False, "pad_token_id": 2},
    ),
    "positions": ("GPT2LMHeadModel", "byte-level", GPT2),
    "capped": (
        "Gemma2ForCausalLM",
        "split",
        {**SIZES, "head_dim": 8, "num_key_value_heads": 1, "pad_token_id": 300},
    ),
    "head bias": ("PhiForCausalLM", "byte-level", SIZES),
    "states": ("MambaForCausalLM", "byte-level", {"hidden_size": 16, "num_hidden_layers": 2}),
    "bare": ("LlamaForCausalLM", "bare", SIZES),
    "gaps": ("BertForMaskedLM", "wordpiece", SIZES),
    "gaps from pad": ("RobertaForMaskedLM", "marked", SIZES),
}
"""A model, its tokenizer, and its settings; `gaps` are models that fill them."""

CAUSAL = [name for name in KINDS if not name.startswith("gaps")]
GAPS = [name for name in KINDS if name.startswith("gaps")]


def tokenizer(name: str) -> tuple[Tokenizer, dict[str, str]]:
    """One of the small tokenizers, with a mask where it is for models that fill gaps."""
    if name == "wordpiece":
        made, roles = SMALL[name][0](), SMALL[name][1]
        return made, {**roles, "unk_token": "[UNK]", "mask_token": "[MASK]"}
    if name == "bare":
        said = json.loads(SMALL["byte-level"][0]().to_str())
        return Tokenizer.from_str(json.dumps({**said, "added_tokens": []})), {}
    if name == "marked":
        made = SMALL["byte-level"][0]()
        marks = ["<s>", "<pad>", "</s>", "<mask>"]
        made.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
        roles = ("cls_token", "pad_token", "sep_token", "mask_token")
        return made, dict(zip(roles, marks, strict=True))
    return SMALL[name][0](), SMALL[name][1]


def write_base(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a base, its biases drawn too."""
    class_name, name, said = KINDS[kind]
    made, roles = tokenizer(name)
    write_tokenizer(folder, made.to_str(), roles)
    model_class: Any = getattr(transformers, class_name)
    ids: dict[str, Any] = dict(NO_IDS)
    if "pad_token" in roles:
        ids["pad_token_id"] = made.token_to_id(roles["pad_token"])
    if class_name == "RobertaForMaskedLM":
        ids["pad_token_id"] = 1  # from which positions are counted, whatever the tokenizer says
    config = model_class.config_class(vocab_size=made.get_vocab_size() + 3, **{**ids, **said})
    torch.manual_seed(seed)
    model = model_class(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FrozenBase]:
    """Bases by kind: see KINDS."""

    @cache
    def load(kind: str) -> FrozenBase:
        return freeze(str(write_base(tmp_path_factory.mktemp("base"), kind)))[0]

    return load


def small_recipe(**said: Any) -> TrainRecipe:
    """A recipe of a tiny training; what is given replaces or adds to it."""
    asked: dict[str, Any] = {
        "base_model": "b",
        "out": "o",
        "identity_steps": 2,
        "identity_tokens": 40,
        "steps": 9,
        "texts": 3,
        "characters": 160,
        "length": 24,
        "tokenizers": {"size": 512, "tokens": 200, "batches": 3},
        "network": {"layers": 1},
    }
    for key, value in said.items():
        inner = asked.get(key)
        asked[key] = {**inner, **value} if isinstance(inner, Mapping) else value
    return make_train_recipe(asked)


TEXT = "\n".join(f"{text} {number} – Übung\n" for number, text in enumerate(CORPUS * 8)).encode()
"""Some text to train on."""
