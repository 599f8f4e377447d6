"""Two models of true size that know the same things, with random bodies: for `real_size.py`.

Their embeddings are what a transfer between models can work on. Each token has a latent vector
that is drawn from a hash of its bytes, so both models have the same one for the same token: a
cluster's centre and directions whose variance falls off by a power law. Each model maps it into its
own space by a random linear map, and adds noise, a mean that all rows share, and a length of its
own for each row (log-normal). Reserved tokens are left as they were initialised.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokswap.checkpoint.header import pack_header
from tokswap.checkpoint.writer import tensor_bytes
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary
from tokswap.vocabulary.unused import unused_ids

LATENT, CLUSTERS, FALL = 1_024, 256, 0.5
NOISE, COMMON, SPREAD = 0.1, 0.5, 0.25
"""Next to a row's own part: the noise's length, the shared mean's; deviation of the log length."""

ROWS = 8_192
NAME = "model.safetensors"

BASE: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 2_048,
    "intermediate_size": 8_192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8_192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": True,
    "vocab_size": 128_256,
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
}
"""Llama-3.2-1B."""


def donor_config(width: int) -> dict[str, Any]:
    """Mistral NeMo's settings, with one layer, of another width and narrower within."""
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "dtype": "bfloat16",
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
        "vocab_size": 131_072,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def build(folder: Path, tokenizer: Path, config: dict[str, Any], seed: int) -> None:
    """Write a model: its config, its tokenizer and its weights.

    Args:
        folder: Where to; made here.
        tokenizer: Folder of a real tokenizer.
        config: The config, of Llama's or Mistral's architecture.
        seed: Seed of what the model does not share with others.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in tokenizer.iterdir():
        shutil.copy(file, partial)
    (partial / "config.json").write_text(json.dumps(config, indent=2))
    files = {file.name: file for file in tokenizer.iterdir()}
    vocabulary = load_vocabulary(files, name=str(tokenizer), config=config)
    write_weights(partial / NAME, vocabulary, config, seed)
    partial.rename(folder)


def write_weights(path: Path, vocabulary: Vocabulary, config: Mapping[str, Any], seed: int) -> None:
    """Write all tensors one after another; memory holds a block of them."""
    rows, width = config["vocab_size"], config["hidden_size"]
    shapes = {"model.embed_tokens.weight": (rows, width)}
    for number in range(config["num_hidden_layers"]):
        shapes |= layer(number, config)
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (rows, width)
    entries = {name: ("BF16", shape, 2 * int(np.prod(shape))) for name, shape in shapes.items()}
    draw = torch.Generator().manual_seed(seed)
    body: dict[tuple[int, ...], Tensor] = {}
    with path.open("wb") as file:
        file.write(pack_header(entries, {"format": "pt"}))
        for number, shape in enumerate(shapes.values()):
            if shape == (rows, width):
                for block in table(vocabulary, rows, width, seed + number):
                    file.write(tensor_bytes(block))
                continue
            if shape not in body:  # layers may be equal: nothing looks at what they compute
                body[shape] = (
                    torch.ones(shape).bfloat16()
                    if len(shape) == 1
                    else torch.randn(shape, generator=draw).mul_(0.02).bfloat16()
                )
            file.write(tensor_bytes(body[shape]))


def layer(number: int, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of one decoder layer's tensors."""
    width, hidden, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = size * config["num_attention_heads"], size * config["num_key_value_heads"]
    stem = f"model.layers.{number}."
    return {
        stem + "self_attn.q_proj.weight": (queries, width),
        stem + "self_attn.k_proj.weight": (keys, width),
        stem + "self_attn.v_proj.weight": (keys, width),
        stem + "self_attn.o_proj.weight": (width, queries),
        stem + "mlp.gate_proj.weight": (hidden, width),
        stem + "mlp.up_proj.weight": (hidden, width),
        stem + "mlp.down_proj.weight": (width, hidden),
        stem + "input_layernorm.weight": (width,),
        stem + "post_attention_layernorm.weight": (width,),
    }


def table(vocabulary: Vocabulary, rows: int, width: int, seed: int) -> Iterator[Tensor]:
    """Make an embedding or a head, block by block, (ROWS, width) bfloat16 each."""
    draw = torch.Generator().manual_seed(seed)
    into = torch.randn(LATENT, width, generator=draw) / width**0.5
    common = torch.randn(width, generator=draw) * COMMON / width**0.5
    spelling = [item or b"" for item in vocabulary.spelling] + [b""] * (rows - len(vocabulary))
    words = hashes(spelling)
    idle = torch.zeros(rows, dtype=torch.bool)
    idle[unused_ids(vocabulary, rows)] = True
    for start in range(0, rows, ROWS):
        own = torch.from_numpy(latent(words[start : start + ROWS]))
        made = own @ into
        made += torch.randn(made.shape, generator=draw) * NOISE / width**0.5
        made += common
        made *= (torch.randn(len(made), 1, generator=draw) * SPREAD).exp()
        unused = idle[start : start + ROWS]
        made[unused] = torch.randn(int(unused.sum()), width, generator=draw) * 0.01 / width**0.5
        yield made.bfloat16()


def hashes(spelling: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Hash byte strings to 64 bits each (FNV-1a), the same in every process."""
    found = np.full(len(spelling), 0xCBF29CE484222325, dtype=np.uint64)
    lengths = np.array([len(item) for item in spelling])
    longest = int(lengths.max())
    padded = np.zeros((len(spelling), longest), dtype=np.uint8)
    for number, item in enumerate(spelling):
        padded[number, : len(item)] = np.frombuffer(item, dtype=np.uint8)
    for place in range(longest):
        there = lengths > place
        found[there] = (found[there] ^ padded[there, place]) * np.uint64(0x100000001B3)
    return found


def latent(words: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw the latent vectors of hashed tokens, (n, LATENT), of length about 1."""
    fall = (1.0 + np.arange(LATENT, dtype=np.float32)) ** -FALL
    fall /= np.sqrt((fall**2).sum())
    own = normals(words, LATENT)
    centres = normals(np.arange(CLUSTERS, dtype=np.uint64) * np.uint64(7919), LATENT)
    found: np.ndarray[Any, np.dtype[np.float32]] = own
    found += centres[(mixed(words) >> np.uint64(40)) % np.uint64(CLUSTERS)]
    found *= fall / np.float32(np.sqrt(2))
    return found


def normals(
    words: np.ndarray[Any, np.dtype[np.uint64]], count: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw ``count`` normal numbers from each word (Box and Muller's transform)."""
    half = np.arange(count // 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = mixed(words[:, None] + half)
    first = ((bits >> np.uint64(40)).astype(np.float32) + 0.5) / np.float32(2**24)
    second = (bits & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2 * np.pi / 2**24)
    radius = np.sqrt(-2 * np.log(first))
    return np.concatenate([radius * np.cos(second), radius * np.sin(second)], axis=1)


def mixed(words: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Mix the bits of 64-bit words (the finaliser of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
