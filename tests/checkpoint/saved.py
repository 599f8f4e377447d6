"""Random models of transformers, saved, and where their vocabulary is found to lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tokswap.checkpoint.layout import Layout, check_sizes, find_layout
from tokswap.checkpoint.source import Checkpoint

LLAMA = {
    "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 37, "max_position_embeddings": 16,
}  # fmt: skip
Save = Callable[..., Path]
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, Any]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def of(folder: Path) -> Layout:
    found = find_layout(Checkpoint.open(str(folder)))
    assert check_sizes(Checkpoint.open(str(folder)), found) == 37
    return found


def roles(found: Layout) -> dict[str, str]:
    return {tensor.name: tensor.role for tensor in found.tensors}
