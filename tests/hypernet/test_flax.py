"""Flax's weights: files written by hand in its format, whole, in chunks, damaged and hostile."""

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch
from torch import Tensor

from tests.hypernet.made import KINDS, settings, weights
from tokswap.errors import CheckpointError
from tokswap.hypernet.config import read_config
from tokswap.hypernet.flax import read_flax
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.stored import WORDS, fill

FILE = "flax_model.msgpack"


def array(tensor: Tensor, code: int = 1) -> msgpack.ExtType:
    flat = tensor.reshape(-1).clone()
    data = flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    name = str(tensor.dtype).removeprefix("torch.")
    return msgpack.ExtType(code, msgpack.packb((tuple(tensor.shape), name, data)))


def chunked(tensor: Tensor, size: int) -> dict[str, Any]:
    chunks = tensor.reshape(-1).split(size)
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(place): length for place, length in enumerate(tensor.shape)},
        "chunks": {str(place): array(chunk) for place, chunk in enumerate(chunks)},
    }


def as_flax(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Turn torch's weights into Flax's tree: other names, matrices the other way round."""
    tree: dict[str, Any] = {}
    for name, ours in tensors.items():
        if name == WORDS:
            continue
        tensor, (*parts, leaf) = ours, name.split(".")
        if name == "lang_embeddings.weight":
            parts = ["model", "embeddings", "lang_embedding"]
        projections = ("input_projection", "output_projection", "output_projection_out")
        if parts[0] in projections:
            parts[1] = f"layers_{parts[1]}"
        if leaf == "weight" and "embedding" in parts[-1]:
            leaf = "embedding"
        elif leaf == "weight" and parts[-1] in {"ln", "LayerNorm"}:
            leaf = "scale"
        elif leaf == "weight":
            leaf, tensor = "kernel", tensor.T
        level = tree
        for part in parts:
            level = level.setdefault(part, {})
        level[leaf] = tensor
    blocks = {"0": {"dense": {"kernel": torch.ones(3, 3)}}}
    tree["model"]["encoder"]["layer"]["inter_token_blocks"] = blocks
    return tree


def packed(tree: Any, leaf: Callable[[Tensor], Any] = array) -> Any:
    if isinstance(tree, dict):
        return {key: packed(value, leaf) for key, value in tree.items()}
    return leaf(tree)


def write(folder: Path, tree: Any) -> Path:
    path = folder / FILE
    path.write_bytes(msgpack.packb(tree, strict_types=True))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_gives_the_weights_that_torch_has(kind: str, tmp_path: Path) -> None:
    said = settings(kind)
    tensors = weights(said)
    found = read_flax(write(tmp_path, packed(as_flax(tensors))), "made")
    assert found.keys() == tensors.keys() - {WORDS}
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.items())
    fill(Hypernet(read_config(said, "made")), found, "made")


def test_reads_half_types_chunks_and_scalars(tmp_path: Path) -> None:
    tensors = weights(settings())
    half = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}

    def leaf(tensor: Tensor) -> Any:
        return chunked(tensor, 100) if tensor.dim() > 1 else array(tensor)

    tree = packed(as_flax(half), leaf) | {"step": array(torch.tensor(7), 3)}
    found = read_flax(write(tmp_path, {"params": tree}), "made")
    assert found.pop("step").item() == 7
    assert found.keys() == tensors.keys() - {WORDS}
    for name, tensor in found.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, half[name]), name


def test_an_empty_array_is_one(tmp_path: Path) -> None:
    found = read_flax(write(tmp_path, {"a": {"bias": array(torch.empty(0, 4))}}), "made")
    assert found["a.bias"].shape == (0, 4)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_file_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path, packed(as_flax(weights(settings()))))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        CheckpointError, match=rf"^made: {FILE} is cut off or damaged \(.+\); "
    ) as e:
        read_flax(path, "made")
    assert "\n" not in str(e.value)


def leaf(shape: Any, dtype: Any, data: Any) -> bytes:
    """A tree of one array whose payload is as it is said."""
    return msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))})


EIGHT = struct.pack("<2f", 1, 2)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "text": (b"not msgpack at all", "Unpack|extra data|is no map"),
    "an array of what is no array": (msgpack.packb([1, 2]), "is no map"),
    "a number": (msgpack.packb({"a": {"kernel": 7}}), "a.kernel is no map and no array"),
    "a list": (msgpack.packb({"a": [1]}), "a is no map and no array"),
    "more behind it": (msgpack.packb({}) * 2, "extra data"),
    "objects": (leaf([2], "object", EIGHT), "type 'object'"),
    "strings": (leaf([2], "str32", EIGHT), "type 'str32'"),
    "complex numbers": (leaf([1], "complex64", EIGHT), "type 'complex64'"),
    "no type": (leaf([2], 7, EIGHT), "type 7"),
    "too few bytes": (leaf([3], "float32", EIGHT), r"shape \(3,\) .* holds 8 bytes"),
    "too many bytes": (leaf([1], "float32", EIGHT), r"shape \(1,\) .* holds 8 bytes"),
    "a huge shape": (leaf([2**40, 2**40], "float32", EIGHT), "holds 8 bytes"),
    "a shape below zero": (leaf([-1, -2], "float32", EIGHT), r"shape \[-1, -2\]"),
    "a shape of text": (leaf("ab", "float32", EIGHT), "shape 'ab'"),
    "no bytes": (leaf([2], "float32", [1, 2]), "no bytes"),
    "many dimensions": (leaf([1] * 9, "float32", b""), "exceeds max_array_len"),
    "another payload": (msgpack.packb({"a": msgpack.ExtType(1, b"\x01")}), "."),
    "another extension": (msgpack.packb({"a": msgpack.ExtType(2, b"")}), "extension of type 2"),
    "numbers as names": (msgpack.packb({7: {"kernel": 1}}), "not allowed for map key"),
    "a length beyond the file": (b"\xc9\xff\xff\xff\xff\x01", "exceeds|incomplete"),
    "a list beyond the file": (b"\xdd\xff\xff\xff\xff", "exceeds|incomplete"),
    "a map beyond the file": (b"\xdf\xff\xff\xff\xff", "exceeds|incomplete"),
    "maps in maps": (b"\x81\xa1a" * 5000, "."),
    "chunks that are too few": (
        msgpack.packb({"a": chunked(torch.ones(8), 4) | {"shape": {"0": 9}}}),
        r"shape \(9,\) in chunks of 8",
    ),
    "chunks that are none": (
        msgpack.packb({"a": chunked(torch.ones(8), 4) | {"chunks": {"0": 3}}}),
        "no array",
    ),
    "chunks of gaps": (
        msgpack.packb({"a": chunked(torch.ones(8), 4) | {"chunks": {"1": 3}}}),
        "'0'",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_content_is_refused(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    path = tmp_path / FILE
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"cut off or damaged \(.*({message})"):
        read_flax(path, "made")


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    """No change of a byte of the structure leads anywhere but to an error or to arrays."""
    path = write(
        tmp_path, packed({"a": {"kernel": torch.ones(2, 2)}, "b": {"bias": torch.ones(1)}})
    )
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        for value in (0x00, 0x7F, 0x81, 0xC1, 0xC7, 0xDD, 0xDF, 0xFF):
            path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            try:
                found = read_flax(path, "made")
            except CheckpointError:
                refused += 1
            else:
                assert all(isinstance(tensor, Tensor) for tensor in found.values())
                assert sum(math.prod(tensor.shape) for tensor in found.values()) <= 8
    assert refused > len(data)
