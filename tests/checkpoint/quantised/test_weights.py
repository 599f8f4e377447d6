"""Quantised weights read as plain ones: each format packed by its definition, number by number."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from checkpoint.quantised import packing
from checkpoint.quantised.packing import Packed
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

Build = Callable[..., Checkpoint]

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
BNB8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}
CT = {"quant_method": "compressed-tensors", "format": "float-quantized"}

CASES: dict[str, tuple[dict[str, Any], Callable[..., Packed]]] = {
    "gptq": (GPTQ, packing.gptq),
    "gptq of the first version by name": (GPTQ | {"checkpoint_format": "gptq"}, packing.gptq),
    "gptq of the second version": (
        GPTQ | {"checkpoint_format": "gptq_v2"}, partial(packing.gptq, version=2),
    ),
    "gptq in act order": (GPTQ | {"desc_act": True}, partial(packing.gptq, act_order=True)),
    "gptq without g_idx": (GPTQ, partial(packing.gptq, g_idx=False)),
    "gptq in one group": (GPTQ | {"group_size": -1}, partial(packing.gptq, group=-1)),
    "gptq in one group without g_idx": (GPTQ, partial(packing.gptq, group=-1, g_idx=False)),
    "gptq with 2 bits": (GPTQ | {"bits": 2}, partial(packing.gptq, bits=2)),
    "gptq with 3 bits": (GPTQ | {"bits": 3}, partial(packing.gptq, bits=3)),
    "gptq with 8 bits": (GPTQ | {"bits": 8}, partial(packing.gptq, bits=8)),
    "awq": (AWQ, packing.awq),
    "awq in one group": (AWQ | {"group_size": -1}, partial(packing.awq, group=-1)),
    "fp8": (FP8, packing.fp8_blocks),
    "fp8 in small blocks": (
        FP8 | {"weight_block_size": [48, 32]}, partial(packing.fp8_blocks, block=(48, 32)),
    ),
    "fp8 with scales by another name": (FP8, partial(packing.fp8_blocks, name="scale")),
    "fp8 with one scale": (
        FP8 | {"weight_block_size": None}, partial(packing.fp8_scale, shape=()),
    ),
    "mxfp8": (FP8 | {"weight_block_size": [1, 32], "scale_fmt": "ue8m0"}, packing.fp8_exponents),
    "compressed fp8": (CT, partial(packing.fp8_scale, shape=(1,))),
    "compressed fp8 by rows": (CT, partial(packing.fp8_scale, shape=(160, 1))),
    "compressed fp8 in blocks": (
        CT | {"config_groups": {"group_0": {"weights": {"block_structure": [64, 32]}}}},
        partial(packing.fp8_blocks, block=(64, 32), name="weight_scale"),
    ),
    "compressed int8": (CT, partial(packing.int8_rows, zero=False)),
    "compressed int8 with zero points": (CT, partial(packing.int8_rows, zero=True)),
    "compressed int4": (CT, packing.packed),
    "compressed int4 with zero points": (CT, partial(packing.packed, zero=True)),
    "compressed int8, packed": (CT, partial(packing.packed, bits=8)),
    "nf4": (BNB, packing.bnb4),
    "nf4 with quantised scales": (BNB, partial(packing.bnb4, nested=8)),
    "nf4 stored as bfloat16": (BNB, partial(packing.bnb4, storage=torch.bfloat16)),
    "int8 of bitsandbytes": (BNB8, packing.bnb8),
}  # fmt: skip


def folder(
    build: Build, parts: dict[str, torch.Tensor], settings: Any, **config: Any
) -> Checkpoint:
    stored = {f"lm_head.{part}": tensor for part, tensor in parts.items()}
    said = {"dtype": "float32", "quantization_config": settings, **config}
    return build(model__safetensors=stored, config__json=said)


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_that_were_packed(checkpoint: Build, case: str) -> None:
    settings, pack = CASES[case]
    parts, plain = pack(np.random.default_rng(7), 160, 96)
    read = folder(checkpoint, parts, settings)
    assert "lm_head.weight" in read.names
    assert read.info("lm_head.weight").shape == (160, 96)
    assert set(read.stored_names("lm_head.weight")) == {f"lm_head.{part}" for part in parts}
    found = read.load("lm_head.weight")
    assert found.dtype == torch.float32
    # One product, or for nested scales two, each rounded once to float32.
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(found.double().numpy(), plain, rtol=3e-7, atol=0)


def test_rows_are_computed_a_few_at_a_time(
    checkpoint: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.checkpoint.quantised.formulas.ROWS_AT_ONCE", 27)
    for case in ("gptq", "awq", "fp8", "compressed int4 with zero points", "nf4"):
        test_the_numbers_are_those_that_were_packed(checkpoint, case)


@pytest.mark.parametrize(
    ("config", "dtype", "said"),
    [
        ({"dtype": "float16"}, torch.float16, "F16"),
        ({"dtype": None, "torch_dtype": "bfloat16"}, torch.bfloat16, "BF16"),
        ({"dtype": None, "text_config": {"dtype": "float16"}}, torch.float16, "F16"),
        ({"dtype": None}, torch.bfloat16, "BF16"),
    ],
)
def test_the_plain_weight_has_the_models_type(
    checkpoint: Build, config: Any, dtype: torch.dtype, said: str
) -> None:
    parts, plain = packing.awq(np.random.default_rng(7), 64, 32)
    read = folder(checkpoint, parts, AWQ, **config)
    assert read.load("lm_head.weight").dtype == dtype
    assert torch.equal(read.load("lm_head.weight"), torch.from_numpy(plain).to(dtype))
    info = read.info("lm_head.weight")
    assert (info.dtype, info.end - info.begin) == (said, 64 * 32 * 2)


def test_a_plain_weight_with_leftover_scales_is_plain(checkpoint: Build) -> None:
    weight = torch.randn(8, 4)
    read = folder(checkpoint, {"weight": weight, "input_scale": torch.ones(1)}, FP8)
    assert torch.equal(read.load("lm_head.weight"), weight)
    assert read.stored_names("lm_head.weight") == ("lm_head.weight",)


def test_nothing_is_read_into_names_where_no_quantisation_is_said(checkpoint: Build) -> None:
    parts, _ = packing.awq(np.random.default_rng(7), 64, 32)
    assert "lm_head.weight" not in folder(checkpoint, parts, None).names


def test_settings_of_gptq_may_lie_in_a_file_of_their_own(checkpoint: Build) -> None:
    parts, plain = packing.gptq(np.random.default_rng(7), 64, 32)
    stored = {f"lm_head.{part}": tensor for part, tensor in parts.items()}
    read = checkpoint(
        model__safetensors=stored,
        config__json={"dtype": "float32"},
        quantize_config__json={"bits": 4, "group_size": 32},
    )
    assert torch.equal(read.load("lm_head.weight"), torch.from_numpy(plain).float())


def shrunk(part: str) -> Callable[..., dict[str, torch.Tensor]]:
    return lambda parts: parts | {part: parts[part][:-1]}


@pytest.mark.parametrize(
    ("settings", "pack", "change"),
    [
        (GPTQ | {"checkpoint_format": "marlin"}, packing.gptq, dict),
        (AWQ | {"version": "gemv"}, packing.awq, dict),
        (AWQ, packing.awq, shrunk("qzeros")),
        (GPTQ, packing.gptq, shrunk("qzeros")),
        (FP8, packing.fp8_blocks, shrunk("weight_scale_inv")),
        (BNB8, packing.bnb8, lambda p: p | {"weight_format": torch.tensor(2, dtype=torch.uint8)}),
        (BNB, packing.bnb4, lambda p: {n: t for n, t in p.items() if "quant_map" not in n}),
        (CT, packing.packed, lambda p: {n: t for n, t in p.items() if n != "weight_shape"}),
        ({"quant_method": "quark"}, partial(packing.fp8_scale, shape=(1,)), dict),
        ({"quant_method": None}, partial(packing.fp8_scale, shape=(1,)), dict),
    ],
)
def test_what_cannot_be_made_plain_is_refused(
    checkpoint: Build, settings: Any, pack: Callable[..., Packed], change: Callable[..., Any]
) -> None:
    parts, _ = pack(np.random.default_rng(7), 256, 64)
    method = settings["quant_method"] or "unknown"
    read = folder(checkpoint, change(parts), settings)
    with pytest.raises(
        CheckpointError,
        match=rf"stores lm_head quantised by '{method}' in a form that .*; transplant the "
        "unquantised model and quantise the result",
    ):
        read.info("lm_head.weight")
