"""Quantised weights of a checkpoint as plain ones: what shape they have, and their numbers."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.header import FLOATS, TensorInfo
from tokswap.checkpoint.quantised.parts import PLAIN, Parts
from tokswap.checkpoint.quantised.settings import SKIPPED, method_of
from tokswap.errors import CheckpointError
from tokswap.vocabulary.special import levels

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.checkpoint.source import Checkpoint

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SCALES = ("weight_scale_inv", "weight_scale", "scale", "qscale_weight")
EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "I8")


@dataclass(frozen=True)
class Form:
    """How one weight is quantised.

    Attributes:
        kind: The formula: ``scaled``, ``packed``, ``gptq``, ``awq``, ``bitsandbytes4`` or
            ``bitsandbytes8``.
        shape: (out, in) of the plain weight.
        bits: Bits of one number, where they are packed.
        block: Rows and columns that share one scale, where it does not follow from the parts.
    """

    kind: str
    shape: tuple[int, int]
    bits: int = 8
    block: tuple[int, int] = (1, 1)


def is_packed(parts: Collection[str]) -> bool:
    """Tell whether a weight's numbers are stored under another name than the weight's own."""
    return bool({"qweight", "weight_packed"} & set(parts))


def is_quantised(parts: Mapping[str, TensorInfo]) -> bool:
    """Tell by its parts whether a weight is quantised; a plain one may have scales left over."""
    weight = parts.get(PLAIN)
    if weight is None:
        return is_packed(parts)
    return weight.dtype not in FLOATS or "weight.absmax" in parts


def plain_type(config: Mapping[str, Any]) -> str:
    """Type for weights that were quantised: the one the model computes in, else bfloat16."""
    said = (level.get(key) for level in levels(config) for key in ("dtype", "torch_dtype"))
    return next((TYPES[name] for name in said if isinstance(name, str) and name in TYPES), "BF16")


def form_of(checkpoint: "Checkpoint", weight: str, parts: Parts) -> Form:
    """Find out how a weight is quantised, from the settings and the shapes of its parts.

    Raises:
        CheckpointError: If it cannot be made plain.
    """
    settings = checkpoint.quantisation or {}
    method = method_of(settings)
    infos = {part: checkpoint.stored_info(name) for part, name in parts.items()}
    form = None
    if method in SKIPPED:
        form = _form(method, settings, infos, lambda part: checkpoint.load_stored(parts[part]))
    if form is None:
        raise CheckpointError(refusal(checkpoint, weight))
    return form


def refusal(checkpoint: "Checkpoint", weight: str) -> str:
    """Tell that a vocabulary tensor's quantisation cannot be undone, and what to do."""
    method = method_of(checkpoint.quantisation or {})
    module = weight.removesuffix(f".{PLAIN}")
    return (
        f"{checkpoint.name} stores {module} quantised by {method!r} in a form that cannot be made "
        f"plain here; transplant the unquantised model and quantise the result, or give a "
        f"checkpoint whose {module} was left out of the quantisation"
    )


def load_plain(checkpoint: "Checkpoint", weight: str, parts: Parts) -> "Tensor":
    """Compute a quantised weight's numbers.

    Returns:
        (out, in), in the type of :func:`plain_type`.

    Raises:
        CheckpointError: If it cannot be made plain.
    """
    import torch

    from tokswap.checkpoint.quantised import formulas

    form = form_of(checkpoint, weight, parts)
    stored = {part: checkpoint.load_stored(name) for part, name in parts.items()}
    if form.kind == "gptq":
        version = (checkpoint.quantisation or {}).get("checkpoint_format")
        rows = formulas.gptq(stored, form.bits, plus=0 if version == "gptq_v2" else 1)
    elif form.kind == "awq":
        rows = formulas.awq(stored)
    elif form.kind == "bitsandbytes4":
        rows = formulas.bitsandbytes4(_short(stored), form.shape[1])
    elif form.kind == "bitsandbytes8":
        rows = formulas.bitsandbytes8(stored)
    elif form.kind == "packed":
        rows = formulas.packed(_short(stored), form.bits, form.block[1])
    else:
        rows = formulas.scaled(_short(stored), form.block)
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return formulas.fill(rows, form.shape, types[plain_type(checkpoint.config)])


def plain_info(checkpoint: "Checkpoint", weight: str, parts: Parts) -> TensorInfo:
    """Type, shape and size that a quantised weight has once it is plain."""
    dtype, shape = plain_type(checkpoint.config), form_of(checkpoint, weight, parts).shape
    return TensorInfo(dtype, shape, 0, math.prod(shape) * (4 if dtype == "F32" else 2))


def _short(stored: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Name parts as the formulas do."""
    names = dict.fromkeys(SCALES, "scale") | {
        "weight_packed": "weight",
        "weight_shape": "shape",
        "weight_zero_point": "zero_point",
        "weight_g_idx": "g_idx",
    }
    return {
        "state" if "quant_state" in part else names.get(part, part.removeprefix("weight.")): tensor
        for part, tensor in stored.items()
    }


def _form(
    method: str, settings: Mapping[str, Any], infos: Mapping[str, TensorInfo], load: Any
) -> Form | None:
    if method == "gptq":
        return _gptq(settings, infos)
    if method == "awq":
        return _awq(settings, infos)
    if method == "bitsandbytes":
        return _bitsandbytes(infos, load)
    if "weight_packed" in infos:
        return _packed(infos, load)
    return _scaled(settings, infos)


def _gptq(settings: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> Form | None:
    if not {"qweight", "qzeros", "scales"} <= infos.keys():
        return None
    version = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    words, zeros, scales = (infos[part].shape for part in ("qweight", "qzeros", "scales"))
    groups, outputs = scales
    bits = next((b for b in (2, 3, 4, 8) if zeros == (groups, -(-outputs * b // 32))), None)
    if version not in {"gptq", "gptq_v2"} or bits is None or words[1] != outputs:
        return None
    inputs = words[0] * 32 // bits
    if "g_idx" not in infos and inputs % groups:
        return None
    return Form("gptq", (outputs, inputs), bits)


def _awq(settings: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> Form | None:
    if not {"qweight", "qzeros", "scales"} <= infos.keys():
        return None
    version = str(settings.get("version") or settings.get("format") or "gemm").lower()
    (inputs, words), (groups, outputs) = infos["qweight"].shape, infos["scales"].shape
    fits = words * 8 == outputs and infos["qzeros"].shape == (groups, words)
    return Form("awq", (outputs, inputs), 4) if version == "gemm" and fits else None


def _bitsandbytes(infos: Mapping[str, TensorInfo], load: Any) -> Form | None:
    from tokswap.checkpoint.quantised.formulas import bitsandbytes_state

    weight = infos[PLAIN]
    if "SCB" in infos:
        # Other layouts of the numbers were made for the processors of their time.
        rows = "weight_format" not in infos or not load("weight_format").any()
        return Form("bitsandbytes8", weight.shape) if rows and len(weight.shape) == 2 else None
    state = next((part for part in infos if "quant_state" in part), None)
    if state is None or not {"weight.absmax", "weight.quant_map"} <= infos.keys():
        return None
    shape = bitsandbytes_state(load(state))["shape"]
    if not isinstance(shape, list) or len(shape) != 2:
        return None
    return Form("bitsandbytes4", (int(shape[0]), int(shape[1])), 4)


def _packed(infos: Mapping[str, TensorInfo], load: Any) -> Form | None:
    if (
        not {"weight_scale", "weight_shape"} <= infos.keys()
        or infos["weight_packed"].dtype != "I32"
    ):
        return None
    outputs, inputs = (int(size) for size in load("weight_shape"))
    words, groups = infos["weight_packed"].shape[1], infos["weight_scale"].shape[-1]
    bits = next((b for b in (2, 4, 8) if words == -(-inputs * b // 32)), None)
    if bits is None or inputs % groups:
        return None
    return Form("packed", (outputs, inputs), bits, (1, inputs // groups))


def _scaled(settings: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> Form | None:
    weight = infos.get(PLAIN)
    scale = next((infos[part] for part in SCALES if part in infos), None)
    if weight is None or scale is None or weight.dtype not in EIGHT_BITS or len(weight.shape) != 2:
        return None
    outputs, inputs = weight.shape
    blocks_only = settings.get("weight_block_size") and len(scale.shape) == 2
    if math.prod(scale.shape) == 1 and not blocks_only:
        return Form("scaled", weight.shape, block=(outputs, inputs))
    if scale.shape in {(outputs,), (outputs, 1)}:
        return Form("scaled", weight.shape, block=(1, inputs))
    for block in _blocks(settings, weight.shape, scale.shape):
        if scale.shape == (-(-outputs // block[0]), -(-inputs // block[1])):
            return Form("scaled", weight.shape, block=block)
    return None


def _blocks(
    settings: Mapping[str, Any], shape: tuple[int, ...], grid: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Sizes that a block may have: those that the settings name, and groups in a row."""
    named = [
        level.get(key)
        for level in levels(settings)
        for key in ("weight_block_size", "block_structure")
    ]
    blocks = [(int(b[0]), int(b[1])) for b in named if isinstance(b, list) and len(b) == 2]
    if len(grid) == 2 and grid[0] == shape[0] and shape[1] % grid[1] == 0:
        blocks.append((1, shape[1] // grid[1]))
    if not blocks:
        blocks.append((128, 128))
    return blocks
