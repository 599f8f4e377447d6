"""What is stored: the published names, shapes and files."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.hypernet.made import KINDS, settings, shapes, weights
from tokswap.errors import CheckpointError
from tokswap.hypernet.config import HypernetConfig, read_config
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.stored import WORDS, fill, published, save, stored_shapes
from tokswap.vocabulary.tokens import load_vocabulary

RESCALED: dict[str, Any] = {"hn_rescale_embeddings": True, "hn_surface_maxlen": 7}
SIZES: dict[str, tuple[dict[str, Any], int]] = {
    # 82.54 MB, 684 MB and 2,710.96 MB in float32: the sizes of the published files.
    "xlm-roberta-base, 26 languages": (
        {
            "n_embd": 768, "hn_hidden_size": 768, "hn_intermediate_size": 1536,
            "hn_num_attention_heads": 12, "hn_embed_lang_id": True, "n_langs": 26,
            "hn_n_extra_tokens": 161, "original_vocab_size": 250002, "pad_token_id": 1,
            "separate_out_embeddings": False,
        },
        20_634_625,
    ),
    "TinyLlama-1.1B": (
        {
            "n_embd": 2048, "hn_hidden_size": 2048, "hn_intermediate_size": 4096,
            "hn_n_extra_tokens": 522, "original_vocab_size": 32000, "pad_token_id": 2,
            "separate_out_embeddings": True,
        },
        171_098_113,
    ),
    "Mistral-7B": (
        {
            "n_embd": 4096, "hn_hidden_size": 4096, "hn_intermediate_size": 8192,
            "hn_num_attention_heads": 32, "hn_n_extra_tokens": 522, "original_vocab_size": 32000,
            "pad_token_id": 2, "separate_out_embeddings": True,
        },
        677_740_545,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes_have_as_many_parameters(name: str) -> None:
    said, count = SIZES[name]
    found = stored_shapes(HypernetConfig(**said, **RESCALED))
    assert sum(math.prod(shape) for shape in found.values()) == count


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_are_the_published_ones(kind: str) -> None:
    said = settings(kind)
    assert stored_shapes(read_config(said, "made")) == shapes(said)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_filled_is_what_is_published(kind: str) -> None:
    said = settings(kind)
    tensors = weights(said)
    with torch.device("meta"):
        empty = Hypernet(read_config(said, "made"))
    for network in (Hypernet(read_config(said, "made")), empty):
        half = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
        fill(network, half | {"model.embeddings.position_ids": torch.arange(514)[None]}, "made")
        found = published(network)
        assert found.keys() == tensors.keys()
        for name, tensor in found.items():
            wanted = torch.zeros(tensor.shape) if name == WORDS else half[name].float()
            assert torch.equal(tensor, wanted), name
            assert tensor.dtype == torch.float32
            assert tensor.is_contiguous()


def test_a_network_in_use_is_filled_in_place() -> None:
    """Whoever holds its parameters, as an optimizer does, goes on holding them."""
    said = settings()
    network = Hypernet(read_config(said, "made"))
    held = network.scaler.w
    fill(network, weights(said), "made")
    assert network.scaler.w is held
    assert torch.equal(held, weights(said)["scaler.w"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_projection.1.bias": None}, r"lacks the tensor 'output_projection.1.bias'"),
        (
            {"scaler.w": torch.ones(1, 13)},
            r"'scaler.w' has shape \(1, 13\), and by its config.json \(1, 12\)",
        ),
        (
            {"model.encoder.layer.7.output.dense.bias": torch.ones(1)},
            r"holds 'model.encoder.layer.7.output.dense.bias', which belongs to no part",
        ),
    ],
)
def test_other_tensors_are_refused(change: dict, message: str) -> None:
    said = settings()
    tensors = {n: t for n, t in (weights(said) | change).items() if t is not None}
    with pytest.raises(CheckpointError, match=message):
        fill(Hypernet(read_config(said, "made")), tensors, "made")


@pytest.fixture
def saved(tmp_path: Path, small) -> Path:
    network = Hypernet(read_config(settings(rows=400), "made"))
    base_config = {
        "hidden_size": 12, "dtype": "bfloat16", "model_type": "llama", "pad_token_id": None,
        "quantization_config": {"bits": 4}, "rope_theta": 1e4, "architectures": ["Llama"],
    }  # fmt: skip
    save(
        tmp_path,
        network,
        base_config=base_config,
        tokenizer=small("split").specification,
        special={"eos_token": "<|endoftext|>"},
        about={"base": {"name": "org/base"}},
    )
    return tmp_path


def test_the_published_files_are_written(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    said = json.loads((saved / "config.json").read_text())
    wanted = settings(rows=400)
    # The settings that the published torch code reads, and those that it makes no use of.
    free = {"_name_or_path", "name", "use_unigram_bias", "vocab_size", "bos_token_id", "n_langs"}
    free |= {"hn_n_inter_token_blocks", "hn_inter_token_attention_bias_by_priors"}
    assert {key: said.get(key) for key in wanted.keys() - free} == {
        key: value for key, value in wanted.items() if key not in free
    }
    assert said["rope_theta"] == 1e4
    assert said["torch_dtype"] == "float32"
    assert not said.keys() & {"dtype", "quantization_config"}
    assert said["tokswap"] == {"base": {"name": "org/base"}}
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    found = {name: tuple(t.shape) for name, t in load_file(saved / "model.safetensors").items()}
    assert found == shapes(wanted)


def test_what_is_written_is_read_again(saved: Path, small) -> None:
    said = json.loads((saved / "config.json").read_text())
    assert read_config(said, "saved") == read_config(settings(rows=400, n_langs=7), "made")
    vocabulary = load_vocabulary({path.name: path for path in saved.iterdir()}, name="saved")
    assert vocabulary.spelling == small("split").spelling
    assert vocabulary.strings[vocabulary.roles["eos"]] == "<|endoftext|>"


def test_transformers_reads_the_tokenizer(saved: Path, small) -> None:
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast.from_pretrained(saved)
    text = "The quick brown fox"
    assert loaded(text).input_ids == small("split").backend.encode(text).ids
    assert loaded.special_tokens_map == {"eos_token": "<|endoftext|>"}
