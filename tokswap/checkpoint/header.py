"""The header of a safetensors file: where each tensor's bytes lie.

Format: eight bytes with the header's length (little-endian), the header as JSON, then the
tensors' bytes without gaps. https://huggingface.co/docs/safetensors
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tokswap.errors import CheckpointError

DTYPE_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
"""Bits of one element; a tensor of another type is carried, its size not checked."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of plain numbers; others are parts of something quantised, or no numbers of a model."""

STORED = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What the format calls the types that a recipe may ask for."""

LONGEST = 100_000_000
"""Longest header that is read; the reference implementation has the same limit."""

FIRST = 32 << 10
"""Bytes that are read at first: most headers are shorter, so a remote one is one request."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file.

    Attributes:
        dtype: Type of the elements as the format names it, such as ``BF16``.
        shape: The tensor's shape.
        begin: Offset of its first byte from the end of the header.
        end: Offset behind its last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of one safetensors file.

    Attributes:
        tensors: By name, in the order of their bytes.
        metadata: Free text by key.
        start: Offset of the first tensor's bytes in the file.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    start: int


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        CheckpointError: If the file is not a whole safetensors file.
    """
    with path.open("rb") as file:
        return parse_header(file, path.stat().st_size, str(path))


def parse_header(file: IO[bytes], size: int, called: str) -> Header:
    """Read and check the header of a safetensors file that may lie anywhere.

    Args:
        file: The file, at its beginning.
        size: Its bytes.
        called: What to call it in a message.

    Raises:
        CheckpointError: If it is not a whole safetensors file.
    """
    first = file.read(min(FIRST, size))
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else -1
    if not 2 <= length <= min(LONGEST, size - 8):
        raise CheckpointError(f"{called} is not a whole safetensors file; fetch it again")
    raw = first[8 : 8 + length]
    if len(raw) < length:
        raw += file.read(length - len(raw))
    try:
        said = json.loads(raw)
        metadata = {str(k): str(v) for k, v in said.pop("__metadata__", {}).items()}
        tensors = {name: _tensor_info(entry) for name, entry in said.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{called} has a malformed header ({error}); fetch it again"
        ) from error
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    position = 0
    for name, info in tensors.items():
        bits = DTYPE_BITS.get(info.dtype)
        right_size = bits is None or (info.end - info.begin) * 8 == math.prod(info.shape) * bits
        if info.begin != position or info.end < info.begin or not right_size:
            raise CheckpointError(f"{called}: tensor {name!r} has wrong offsets; fetch it again")
        position = info.end
    if 8 + length + position != size:
        raise CheckpointError(
            f"{called} is {size} bytes long, its header says {8 + length + position}; "
            "fetch it again"
        )
    return Header(tensors, metadata, 8 + length)


def _tensor_info(entry: Mapping[str, Any]) -> TensorInfo:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not all(
        type(n) is int and n >= 0 for n in (*shape, begin, end)
    ):
        raise ValueError(f"an entry with dtype {dtype}, shape {shape}, offsets {[begin, end]}")
    return TensorInfo(dtype, tuple(shape), begin, end)


def pack_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """Write a header, with its length in front, for tensors whose bytes follow in this order.

    Args:
        tensors: Type, shape and number of bytes of each tensor by name.
        metadata: Free text by key; left out when empty.
    """
    said: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape, count) in tensors.items():
        offsets = [position, position + count]
        said[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        position += count
    raw = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # the tensors' bytes begin at a multiple of eight
    return struct.pack("<Q", len(raw)) + raw


def written_type(stored: str, wanted: str | None) -> str:
    """Name the type that a tensor is written in.

    Args:
        stored: The type that it has.
        wanted: The type that a recipe asks for, or None; whole numbers keep theirs.
    """
    return STORED.get(wanted or "", stored) if stored in FLOATS else stored
