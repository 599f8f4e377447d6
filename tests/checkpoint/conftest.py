"""Small checkpoints, written by the libraries that write the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from checkpoint.saved import Save
from tokswap.checkpoint.source import Checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Write a folder of files and open it: bytes as they are, tensors, all else as JSON."""

    def build(folder: str = "base", **files: Any) -> Checkpoint:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for name, said in files.items():
            target = path / name.replace("__", ".").replace("_of_", "-of-")
            if isinstance(said, bytes):
                target.write_bytes(said)
            elif target.suffix == ".safetensors":
                save_file(said, target, metadata={"format": "pt"})
            else:
                target.write_text(json.dumps(said), encoding="utf-8")
        return Checkpoint.open(str(path))

    return build


@pytest.fixture
def sharded(checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    """Two weight files: the first has an embedding of 8 x 4, the second no vocabulary."""
    generator = torch.Generator().manual_seed(0)
    first = {
        "embed.weight": torch.randn(8, 4, generator=generator).bfloat16(),
        "norm.weight": torch.ones(4),
    }
    second = {
        "mlp.weight": torch.randn(5, 4, generator=generator),
        "mlp.scale": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
    }
    total = sum(t.numel() * t.element_size() for t in [*first.values(), *second.values()])
    shards = dict.fromkeys(first, "model-1.safetensors")
    shards |= dict.fromkeys(second, "model-2.safetensors")
    return checkpoint(
        **{
            "model-1__safetensors": first,
            "model-2__safetensors": second,
            "model.safetensors.index.json": {
                "metadata": {"total_size": total, "note": "kept"},
                "weight_map": shards,
            },
            "config__json": {"vocab_size": 8},
        }
    )


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a random model as transformers does."""

    def write(kind: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
        config = getattr(transformers, f"{kind}Config")(**settings)
        model: Any = transformers.AutoModelForCausalLM.from_config(config)
        model.to(dtype).save_pretrained(tmp_path)
        return tmp_path

    return write
