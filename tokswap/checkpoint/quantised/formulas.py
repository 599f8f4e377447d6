"""From stored parts to numbers: the formulas of the formats, on tensors alone.

A weight is (out, in), as a linear module or an embedding has it: one row for each token. Every
formula gives some of its rows in float32, so that a table is never held twice.
"""

import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
Rows = Callable[[int, int], Tensor]
"""Computes the rows from a first up to a last one, (n, in) float32."""

ROWS_AT_ONCE = 4096
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column that each four bits of a word of AWQ's hold, the lowest bits first."""


def fill(rows: Rows, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Compute a whole table by its formula, a few rows at a time, rounded once."""
    table = torch.empty(shape, dtype=dtype)
    for start in range(0, shape[0], ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, shape[0])
        table[start:stop] = rows(start, stop)
    return table


def unpack(words: Tensor, bits: int, count: int) -> Tensor:
    """Read unsigned numbers from a stream of bits, the lowest bits of each word first.

    Args:
        words: (n, w) int32.
        bits: Bits of one number; where they do not divide 32, numbers go on in the next word.
        count: Numbers of each row.

    Returns:
        (n, count) int32.
    """
    wide = words.to(torch.int64) & 0xFFFFFFFF
    wide = torch.cat([wide, wide.new_zeros(len(wide), 1)], dim=1)
    place = torch.arange(count) * bits
    mask = (1 << bits) - 1
    word, shift = place // 32, place % 32
    both = wide[:, word] | (wide[:, word + 1] << 32)
    return (both >> shift & mask).to(torch.int32)


def scaled(parts: Parts, block: tuple[int, int]) -> Rows:
    """8-bit floats or integers with one scale for each block (fp8 in all its kinds, int8).

    Args:
        parts: ``weight`` (out, in); ``scale``, one number or one for each block; ``zero_point`` of
            the scales' shape, where there is one; ``g_idx`` (in,), the block that each column is
            of, where they are not in order.
        block: Rows and columns of a block.
    """
    weight = parts["weight"]
    grid = _floats(parts["scale"])
    grid = grid.reshape(grid.shape if grid.dim() == 2 else (-1, 1))
    column = parts.get("g_idx", torch.arange(weight.shape[1]) // block[1]).long()
    zero = parts["zero_point"].float().reshape(grid.shape) if "zero_point" in parts else None

    def rows(start: int, stop: int) -> Tensor:
        line = torch.arange(start, stop) // block[0]
        numbers = weight[start:stop].float()
        if zero is not None:
            numbers -= zero[line][:, column]
        return numbers.mul_(grid[line][:, column])

    return rows


def packed(parts: Parts, bits: int, block: int) -> Rows:
    """Packed integers of compressed-tensors, stored from zero where they are signed.

    Args:
        parts: ``weight`` (out, in · bits / 32) int32; ``scale`` (out, groups); ``zero_point``
            (out · bits / 32, groups) int32 and ``g_idx`` (in,), where there are such.
        bits: Bits of one number.
        block: Columns of a group.
    """
    scale, offset = parts["scale"].float(), 1 << (bits - 1)
    columns = int(parts["shape"][1])
    column = parts.get("g_idx", torch.arange(columns) // block).long()
    zero = None
    if "zero_point" in parts:
        zero = unpack(parts["zero_point"].T, bits, len(scale)).T.float() - offset

    def rows(start: int, stop: int) -> Tensor:
        numbers = unpack(parts["weight"][start:stop], bits, columns).float() - offset
        if zero is not None:
            numbers -= zero[start:stop][:, column]
        return numbers.mul_(scale[start:stop][:, column])

    return rows


def gptq(parts: Parts, bits: int, plus: int) -> Rows:
    """GPTQ: packed along the input, zero points along the output.

    Args:
        parts: ``qweight`` (in · bits / 32, out) and ``qzeros`` (groups, out · bits / 32) int32;
            ``scales`` (groups, out); ``g_idx`` (in,), the group of each input, or none.
        bits: Bits of one number.
        plus: What was taken from the zero points before they were stored: 1 in the first version
            of the format, 0 in the second.
    """
    scales = parts["scales"].float()
    inputs = parts["qweight"].shape[0] * 32 // bits
    group = parts.get("g_idx", torch.arange(inputs) // -(-inputs // len(scales))).long()
    zeros = (unpack(parts["qzeros"], bits, scales.shape[1]) + plus) & ((1 << bits) - 1)

    def rows(start: int, stop: int) -> Tensor:
        numbers = unpack(parts["qweight"][:, start:stop].T, bits, inputs)
        zero, scale = zeros[:, start:stop].T[:, group], scales[:, start:stop].T[:, group]
        return (numbers - zero).float().mul_(scale)

    return rows


def awq(parts: Parts) -> Rows:
    """AWQ: four bits, eight outputs in a word in an order of its own.

    Args:
        parts: ``qweight`` (in, out / 8) and ``qzeros`` (groups, out / 8) int32; ``scales``
            (groups, out).
    """
    scales = parts["scales"].float()
    inputs = len(parts["qweight"])
    group = torch.arange(inputs) // -(-inputs // len(scales))
    place = torch.tensor(AWQ_ORDER).argsort()

    def numbers(words: Tensor) -> Tensor:
        columns = words.shape[1] * 8
        return unpack(words, 4, columns).reshape(-1, words.shape[1], 8)[:, :, place].flatten(1)

    zeros = numbers(parts["qzeros"])

    def rows(start: int, stop: int) -> Tensor:
        first = start // 8
        columns = slice(start - 8 * first, stop - 8 * first)
        some = numbers(parts["qweight"][:, first : -(-stop // 8)])[:, columns]
        zero, scale = zeros[group, start:stop], scales[group, start:stop]
        return ((some - zero).float() * scale).T

    return rows


def bitsandbytes_state(stored: Tensor) -> dict[str, object]:
    """Read what bitsandbytes notes beside a 4-bit weight: JSON in a tensor of bytes."""
    said: dict[str, object] = json.loads(bytes(stored.tolist()))
    return said


def bitsandbytes4(parts: Parts, columns: int) -> Rows:
    """Four bits of bitsandbytes: numbers of a codebook, one scale for each run of them.

    Args:
        parts: ``weight``, two numbers in a byte, the first in the high bits; ``quant_map`` (16,);
            ``absmax``, one scale for each ``blocksize`` numbers, where ``nested_absmax`` and
            ``nested_quant_map`` are quantised themselves; ``state`` as it is stored.
        columns: Columns of the weight.
    """
    state = bitsandbytes_state(parts["state"])
    codes = parts["weight"].contiguous().reshape(-1).view(torch.uint8)
    codebook, absmax = parts["quant_map"].float(), parts["absmax"]
    if "nested_absmax" in parts:
        run = torch.arange(len(absmax)) // int(str(state["nested_blocksize"]))
        absmax = parts["nested_quant_map"].float()[absmax.long()]
        absmax = absmax * parts["nested_absmax"].float()[run]
        absmax = absmax + float(str(state["nested_offset"]))
    scales, blocksize = absmax.float(), int(str(state["blocksize"]))

    def rows(start: int, stop: int) -> Tensor:
        first, last = start * columns, stop * columns
        some = codes[first // 2 : -(-last // 2)]
        both = torch.stack([some >> 4, some & 15], dim=1).reshape(-1)
        both = both[first % 2 : first % 2 + last - first].long()
        run = torch.arange(first, last) // blocksize
        return (codebook[both] * scales[run]).reshape(-1, columns)

    return rows


def bitsandbytes8(parts: Parts) -> Rows:
    """Eight bits of bitsandbytes: ``weight`` (out, in) int8, ``SCB`` (out,) the rows' maxima."""
    maxima = parts["SCB"].float()[:, None]

    def rows(start: int, stop: int) -> Tensor:
        return parts["weight"][start:stop].float() * maxima[start:stop] / 127

    return rows


def _floats(scale: Tensor) -> Tensor:
    """Scales as numbers; where they are bytes, these are exponents of two (E8M0)."""
    return (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()
