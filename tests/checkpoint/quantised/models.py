"""Small random checkpoints with a quantised body, stored as public ones of each scheme are."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GptOssConfig, LlamaConfig

from checkpoint.quantised import packing
from checkpoint.quantised.packing import Packed
from tokswap.names import BUNDLED_FOLDER

TOKENIZER = BUNDLED_FOLDER / "tiny-llama"
SIZES = {
    "vocab_size": 6144, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
    "max_position_embeddings": 128, "tie_word_embeddings": False,
    "bos_token_id": 6141, "eos_token_id": 6142, "pad_token_id": 6143,
}  # fmt: skip
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"

_WEIGHTS = {
    "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False,
    "group_size": None, "block_structure": None, "actorder": None, "observer": "minmax",
}  # fmt: skip
_CT = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "quantization_status": "compressed", "global_compression_ratio": None,
    "kv_cache_scheme": None, "ignore": [],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": _WEIGHTS,
            "input_activations": {**_WEIGHTS, "strategy": "token", "dynamic": True},
            "output_activations": None,
        }
    },
}  # fmt: skip
_BNB = {
    "quant_method": "bitsandbytes", "llm_int8_threshold": 6.0, "llm_int8_skip_modules": [],
    "llm_int8_enable_fp32_cpu_offload": False, "llm_int8_has_fp16_weight": False,
    "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
}  # fmt: skip

SCHEMES: dict[str, tuple[dict[str, Any], Callable[..., Packed]]] = {
    "fp8": (
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
         "weight_block_size": [128, 128], "modules_to_not_convert": []},
        packing.fp8_blocks,
    ),
    "compressed-tensors": (
        _CT, lambda draw, outputs, inputs: packing.fp8_scale(
            draw, outputs, inputs, shape=(outputs, 1)
        ),
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False,
         "damp_percent": 0.1, "true_sequential": True, "checkpoint_format": "gptq"},
        partial(packing.gptq, act_order=True),
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm",
         "zero_point": True, "modules_to_not_convert": None},
        packing.awq,
    ),
    "bitsandbytes_4bit": (
        {**_BNB, "load_in_4bit": True, "load_in_8bit": False}, partial(packing.bnb4, nested=256),
    ),
    "bitsandbytes_8bit": ({**_BNB, "load_in_4bit": False, "load_in_8bit": True}, packing.bnb8),
}  # fmt: skip

SKIPPED = {
    "fp8": "modules_to_not_convert",
    "compressed-tensors": "ignore",
    "gptq": "lm_head",
    "awq": "modules_to_not_convert",
    "bitsandbytes_4bit": "llm_int8_skip_modules",
    "bitsandbytes_8bit": "llm_int8_skip_modules",
}
"""Where each scheme says which modules are not quantised; GPTQ says whether the head is."""


def write(
    folder: Path,
    scheme: str,
    *,
    head: bool = False,
    settings: dict[str, Any] | None = None,
    sizes: dict[str, Any] | None = None,
) -> np.ndarray | None:
    """Write a model whose linear modules are quantised.

    Args:
        folder: Where to write.
        scheme: One of :data:`SCHEMES`.
        head: Whether its head is quantised as well.
        settings: Settings of the quantisation that differ.
        sizes: Sizes of the model, instead of :data:`SIZES`.

    Returns:
        The head's numbers where it is quantised, (S, D) float64.
    """
    said, pack = SCHEMES[scheme]
    said = {**said, **(settings or {})}
    draw, plain = np.random.default_rng(11), None
    tensors, config = _random(LlamaConfig(**(sizes or SIZES)))
    for name in [n for n in tensors if n.endswith("_proj.weight") or (head and n == HEAD)]:
        parts, numbers = pack(draw, *tensors.pop(name).shape)
        stem = name.removesuffix(".weight")
        tensors |= {f"{stem}.{part}": tensor for part, tensor in parts.items()}
        plain = numbers if name == HEAD else plain
    if scheme == "gptq":
        said["lm_head"] = head
    elif not head:
        said[SKIPPED[scheme]] = ["lm_head"]
    _save(folder, tensors, {**config, "quantization_config": said})
    return plain


def write_mxfp4(folder: Path) -> None:
    """Write a small gpt-oss: experts in MXFP4, all else plain."""
    tensors, config = _random(
        GptOssConfig(
            **SIZES, num_local_experts=2, num_experts_per_tok=1, sliding_window=32,
            layer_types=["full_attention", "full_attention"],
        )
    )  # fmt: skip
    draw = np.random.default_rng(11)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        for part, last in (("blocks", (16,)), ("scales", ())):
            shape = (experts, outputs, inputs // 32, *last)
            drawn = draw.integers(100, 127, shape).astype(np.uint8)
            tensors[f"{name}_{part}"] = torch.from_numpy(drawn)
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens"]
    said = {"quant_method": "mxfp4", "modules_to_not_convert": [*skipped, "lm_head"]}
    _save(folder, tensors, {**config, "quantization_config": said})


def _random(config: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).bfloat16()
    said = {**config.to_dict(), "dtype": "bfloat16", "architectures": [type(model).__name__]}
    return dict(model.state_dict()), said


def _save(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Write two weight files with an index; the head's parts lie in both."""
    folder.mkdir(exist_ok=True)
    names, shards = sorted(tensors), {}
    for number, name in enumerate(names):
        shards[name] = f"model-0000{1 + number % 2}-of-00002.safetensors"
    for shard in sorted(set(shards.values())):
        own = {n: tensors[n].contiguous() for n in names if shards[n] == shard}
        save_file(own, folder / shard, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
