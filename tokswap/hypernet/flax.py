"""Weights as Flax stores them: flax_model.msgpack, read by plain msgpack.

Format: a tree of maps with arrays at its leaves. An array is an extension of type 1, whose bytes
are again msgpack: its shape, the name of its type, and its numbers row by row; a scalar is one of
type 3. What is longer than a gigabyte is a map of chunks.
"""

import math
import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import torch
from torch import Tensor

from tokswap.errors import CheckpointError

FLAX = "flax_model.msgpack"

ARRAY, SCALAR = 1, 3
CHUNKED = "__msgpack_chunked_array__"

DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool",
    )
}  # fmt: skip
"""Types of arrays; others hold no weights, and some can hold anything."""

DIMENSIONS, ENTRIES, NAME = 8, 100_000, 1024
"""The most dimensions of an array, entries of a map and bytes of a name that are read."""

LAYER = re.compile(r"^layers_(\d+)$")
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
"""What torch calls otherwise than Flax."""

LANGUAGES = "model.embeddings.lang_embedding.weight"
NOT_OURS = "model.encoder.layer.inter_token_blocks."
"""Blocks that are stored in every checkpoint, and that only kinds which are not supported use."""


def read_flax(path: Path, name: str) -> dict[str, Tensor]:
    """Read the weights of a flax_model.msgpack under the names that safetensors files give them.

    Args:
        path: The file.
        name: What messages call the checkpoint.

    Returns:
        Tensors in their stored types, turned as torch has them.

    Raises:
        CheckpointError: If the file is cut off, damaged, or holds something else.
    """
    try:
        return _renamed(dict(_leaves(_tree(path))))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{name}: {FLAX} is cut off or damaged ({reason[:200]}); fetch it again"
        ) from error


def _tree(path: Path) -> Any:
    """Read the tree; a declared length is held against the file's before anything is allocated."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return msgpack.unpackb(
            data,
            ext_hook=_leaf,
            raw=False,
            max_array_len=DIMENSIONS,
            max_map_len=ENTRIES,
            max_str_len=NAME,
        )


def _leaf(code: int, data: bytes) -> Tensor:
    """Read an array or a scalar.

    Raises:
        ValueError: If it is none, or its bytes do not have its shape.
    """
    if code not in {ARRAY, SCALAR}:
        raise ValueError(f"an extension of type {code}, where only arrays are expected")
    shape, dtype, numbers = msgpack.unpackb(
        data, raw=False, max_array_len=DIMENSIONS, max_str_len=NAME, max_map_len=0, max_ext_len=0
    )
    return _array(_shape(shape), dtype, numbers)


def _array(shape: tuple[int, ...], dtype: Any, numbers: Any) -> Tensor:
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"an array of type {dtype!r}, which is no type of numbers that is read")
    if not isinstance(numbers, bytes) or len(numbers) != math.prod(shape) * DTYPES[dtype].itemsize:
        held = f"{len(numbers)} bytes" if isinstance(numbers, bytes) else "no bytes"
        raise ValueError(f"an array of shape {shape} and type {dtype} that holds {held}")
    if not numbers:
        return torch.empty(shape, dtype=DTYPES[dtype])
    # torch wants bytes that may be written to.
    return torch.frombuffer(bytearray(numbers), dtype=DTYPES[dtype]).reshape(shape)


def _shape(said: Any) -> tuple[int, ...]:
    if not isinstance(said, list | tuple) or not all(type(n) is int and n >= 0 for n in said):
        raise ValueError(f"an array of shape {said!r}")
    return tuple(said)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """List the arrays of a tree by their names, parts joined by points.

    Raises:
        TypeError: If something else is in it.
    """
    if isinstance(tree, Tensor):
        yield name.removeprefix("."), tree
    elif not isinstance(tree, dict):
        raise TypeError(f"{name.removeprefix('.') or 'the file'} is no map and no array")
    elif CHUNKED in tree:
        yield name.removeprefix("."), _whole(tree)
    else:
        if set(tree) == {"params"} and not name:
            tree = tree["params"]
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}")


def _whole(chunked: Mapping[str, Any]) -> Tensor:
    """Put the chunks of an array together.

    Raises:
        ValueError: If they do not make it.
    """
    shape = _shape([chunked["shape"][str(place)] for place in range(len(chunked["shape"]))])
    chunks = [chunked["chunks"][str(place)] for place in range(len(chunked["chunks"]))]
    if not chunks or not all(isinstance(chunk, Tensor) for chunk in chunks):
        raise ValueError("an array in chunks of which one is no array")
    flat = torch.cat([chunk.reshape(-1) for chunk in chunks])
    if len(flat) != math.prod(shape) or {chunk.dtype for chunk in chunks} != {flat.dtype}:
        raise ValueError(f"an array of shape {shape} in chunks of {len(flat)} numbers")
    return flat.reshape(shape)


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the names, and matrices the orientation, that torch has."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(NOT_OURS):
            continue
        *parts, leaf = name.split(".")
        parts = [LAYER.sub(r"\1", part) for part in parts]
        renamed = ".".join([*parts, LEAVES.get(leaf, leaf)])
        matrix = leaf == "kernel" and tensor.dim() == 2
        found["lang_embeddings.weight" if renamed == LANGUAGES else renamed] = (
            tensor.T.contiguous() if matrix else tensor
        )
    return found
