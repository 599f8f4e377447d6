"""Weights packed as the formats say, from chosen integers and scales, and what they stand for.

Each function gives the stored parts of one weight by the end of their names, and the weight itself,
(out, in) float64, multiplied out from the integers: nothing here is unpacked again. Bits are laid
out one by one (:func:`stream`), not by shifts of words as a reader does it.
"""

import json

import numpy as np
import torch
from torch import Tensor

Packed = tuple[dict[str, Tensor], np.ndarray]

AWQ_COLUMNS = [0, 2, 4, 6, 1, 3, 5, 7]


def stream(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Write unsigned numbers behind each other, lowest bit first, along the last axis."""
    each = np.unpackbits(numbers.astype(np.uint8)[..., None], axis=-1, bitorder="little")
    flat = each[..., :bits].reshape(*numbers.shape[:-1], -1)
    short = -flat.shape[-1] % 32
    flat = np.concatenate([flat, np.zeros((*flat.shape[:-1], short), np.uint8)], axis=-1)
    return np.packbits(flat, axis=-1, bitorder="little").view("<i4")


def tensor(numbers: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers))


def half_scales(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return (draw.uniform(0.5, 2, shape) / 64).astype(np.float16)


def gptq(
    draw: np.random.Generator,
    outputs: int,
    inputs: int,
    *,
    bits: int = 4,
    group: int = 32,
    version: int = 1,
    act_order: bool = False,
    g_idx: bool = True,
) -> Packed:
    group = inputs if group == -1 else group
    groups = inputs // group
    index = np.arange(inputs) // group
    if act_order:
        draw.shuffle(index)
    q = draw.integers(0, 2**bits, (inputs, outputs))
    zero = draw.integers(0 if version == 2 else 1, 2**bits, (groups, outputs))
    zero[0, 0] = 0  # which the first version stores as -1, all bits set
    scale = half_scales(draw, groups, outputs)
    stored_zero = zero if version == 2 else (zero - 1) % 2**bits
    parts = {
        "qweight": tensor(stream(q.T, bits).T),
        "qzeros": tensor(stream(stored_zero, bits)),
        "scales": tensor(scale),
    }
    if g_idx:
        parts["g_idx"] = tensor(index.astype(np.int32))
    return parts, ((q - zero[index]) * scale[index].astype(np.float64)).T


def awq(draw: np.random.Generator, outputs: int, inputs: int, *, group: int = 32) -> Packed:
    group = inputs if group == -1 else group
    index = np.arange(inputs) // group
    q = draw.integers(0, 16, (inputs, outputs))
    zero = draw.integers(0, 16, (inputs // group, outputs))
    scale = half_scales(draw, inputs // group, outputs)

    def words(numbers: np.ndarray) -> Tensor:
        ordered = numbers.reshape(len(numbers), -1, 8)[:, :, AWQ_COLUMNS]
        return tensor(stream(ordered.reshape(len(numbers), -1), 4))

    parts = {"qweight": words(q), "qzeros": words(zero), "scales": tensor(scale)}
    return parts, ((q - zero[index]) * scale[index].astype(np.float64)).T


def floats8(draw: np.random.Generator, outputs: int, inputs: int) -> Tensor:
    """Random finite fp8 numbers, by their bytes."""
    codes = draw.integers(0, 256, (outputs, inputs)).astype(np.uint8)
    codes[codes & 0x7F == 0x7F] = 0x40  # these are not numbers
    return torch.from_numpy(codes).view(torch.float8_e4m3fn)


def fp8_value(stored: Tensor) -> np.ndarray:
    """Numbers of E4M3 from their bits: sign, four of exponent with bias 7, three of fraction."""
    codes = stored.view(torch.uint8).numpy().astype(np.int64)
    sign, exponent, fraction = codes >> 7, codes >> 3 & 15, codes & 7
    normal = (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return np.where(sign, -1, 1) * np.where(exponent == 0, fraction / 8 * 2.0**-6, normal)


def fp8_blocks(
    draw: np.random.Generator,
    outputs: int,
    inputs: int,
    *,
    block: tuple[int, int] = (128, 128),
    name: str = "weight_scale_inv",
) -> Packed:
    weight = floats8(draw, outputs, inputs)
    grid = (-(-outputs // block[0]), -(-inputs // block[1]))
    scale = (draw.uniform(0.5, 2, grid) / 4096).astype(np.float32)
    each = np.repeat(np.repeat(scale, block[0], 0), block[1], 1)[:outputs, :inputs]
    return {"weight": weight, name: tensor(scale)}, fp8_value(weight) * each.astype(np.float64)


def fp8_exponents(draw: np.random.Generator, outputs: int, inputs: int) -> Packed:
    """MXFP8: blocks of 32 in a row, each with the exponent of its scale as a byte."""
    weight = floats8(draw, outputs, inputs)
    exponent = draw.integers(105, 125, (outputs, inputs // 32)).astype(np.uint8)
    each = np.repeat(2.0 ** (exponent.astype(np.float64) - 127), 32, 1)
    return {"weight": weight, "weight_scale_inv": tensor(exponent)}, fp8_value(weight) * each


def fp8_scale(
    draw: np.random.Generator, outputs: int, inputs: int, *, shape: tuple[int, ...]
) -> Packed:
    """compressed-tensors: one scale, or one for each row."""
    weight = floats8(draw, outputs, inputs)
    scale = torch.from_numpy(np.asarray(draw.uniform(0.5, 2, shape) / 4096)).bfloat16()
    each = scale.double().reshape(-1, 1).numpy()
    return {"weight": weight, "weight_scale": scale}, fp8_value(weight) * each


def int8_rows(draw: np.random.Generator, outputs: int, inputs: int, *, zero: bool) -> Packed:
    """compressed-tensors: int8 with a scale, and a zero point, for each row."""
    q = draw.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    scale = torch.from_numpy(draw.uniform(0.5, 2, (outputs, 1)) / 1024).bfloat16()
    parts, points = {"weight": tensor(q), "weight_scale": scale}, np.zeros((outputs, 1), np.int8)
    if zero:
        points = draw.integers(-20, 20, (outputs, 1)).astype(np.int8)
        parts["weight_zero_point"] = tensor(points)
    return parts, (q.astype(np.float64) - points) * scale.double().numpy()


def packed(
    draw: np.random.Generator, outputs: int, inputs: int, *, bits: int = 4, zero: bool = False
) -> Packed:
    """compressed-tensors: signed integers packed along the input, groups of 32."""
    low, groups = -(2 ** (bits - 1)), inputs // 32
    q = draw.integers(low, -low, (outputs, inputs))
    scale = torch.from_numpy(draw.uniform(0.5, 2, (outputs, groups)) / 64).bfloat16()
    points = draw.integers(low, -low, (outputs, groups)) if zero else np.zeros((outputs, groups))
    parts = {
        "weight_packed": tensor(stream(q - low, bits)),
        "weight_scale": scale,
        "weight_shape": torch.tensor([outputs, inputs]),
    }
    if zero:
        parts["weight_zero_point"] = tensor(stream((points - low).T, bits).T)
    each = [np.repeat(of, 32, 1) for of in (points, scale.double().numpy())]
    return parts, (q - each[0]) * each[1]


NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


def bnb4(
    draw: np.random.Generator,
    outputs: int,
    inputs: int,
    *,
    nested: int = 0,
    storage: torch.dtype = torch.uint8,
) -> Packed:
    """Four bits of bitsandbytes: the first of two above, runs of 64, nested scales if asked."""
    codes = draw.integers(0, 16, outputs * inputs)
    book, runs = np.array(NF4, np.float32), outputs * inputs // 64
    state: dict[str, object] = {
        "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [outputs, inputs],
    }  # fmt: skip
    stored = torch.from_numpy((codes[0::2] * 16 + codes[1::2]).astype(np.uint8))
    parts = {"weight": stored.view(storage)[:, None], "weight.quant_map": tensor(book)}
    if nested:
        second = np.sort(draw.uniform(-1, 1, 256)).astype(np.float32)
        which = draw.integers(0, 256, runs).astype(np.uint8)
        scale = draw.uniform(0.01, 0.02, -(-runs // nested)).astype(np.float32)
        state |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": 0.0625}
        parts |= {
            "weight.absmax": tensor(which),
            "weight.nested_absmax": tensor(scale),
            "weight.nested_quant_map": tensor(second),
        }
        absmax = second[which].astype(np.float64) * np.repeat(scale, nested)[:runs] + 0.0625
    else:
        absmax = draw.uniform(0.02, 0.1, runs).astype(np.float32).astype(np.float64)
        parts["weight.absmax"] = tensor(absmax.astype(np.float32))
    note = json.dumps(state).encode()
    parts["weight.quant_state.bitsandbytes__nf4"] = tensor(np.frombuffer(note, np.uint8).copy())
    plain = book[codes].astype(np.float64) * np.repeat(absmax, 64)
    return parts, plain.reshape(outputs, inputs)


def bnb8(draw: np.random.Generator, outputs: int, inputs: int) -> Packed:
    q = draw.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    maxima = draw.uniform(0.5, 2, outputs).astype(np.float32)
    parts = {
        "weight": tensor(q),
        "SCB": tensor(maxima),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return parts, q * maxima[:, None].astype(np.float64) / 127
