"""Headers of safetensors files against the safetensors library."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from tokswap.checkpoint.header import DTYPE_BITS, TensorInfo, pack_header, read_header
from tokswap.errors import CheckpointError

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    made = {f"of.{name}": torch.ones(3, 2).to(dtype) for name, dtype in TYPES.items()}
    return made | {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 7), "ünï": torch.ones(1)}


def test_their_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors(), path, metadata={"format": "pt", "ü": "ï"})
    header = read_header(path)
    assert header.metadata == {"format": "pt", "ü": "ï"}
    raw = path.read_bytes()[header.start :]
    with safe_open(path, framework="pt") as theirs:
        assert set(header.tensors) == set(theirs.keys())
        for name, info in header.tensors.items():
            tensor = theirs.get_tensor(name)
            assert info.shape == tuple(tensor.shape)
            assert info.dtype == theirs.get_slice(name).get_dtype()
            data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            assert raw[info.begin : info.end] == data


def test_they_read_our_header(tmp_path: Path) -> None:
    path, written = tmp_path / "x.safetensors", tensors()
    names = {dtype: name for name, dtype in TYPES.items()}
    data = {n: t.reshape(-1).view(torch.uint8).numpy().tobytes() for n, t in written.items()}
    entries = {n: (names[t.dtype], tuple(t.shape), len(data[n])) for n, t in written.items()}
    packed = pack_header(entries, {"format": "pt"})
    assert len(packed) % 8 == 0
    path.write_bytes(packed + b"".join(data.values()))
    loaded = load_file(path)
    assert {n: t.tolist() for n, t in loaded.items()} == {n: t.tolist() for n, t in written.items()}
    assert all(loaded[name].dtype == tensor.dtype for name, tensor in written.items())
    with safe_open(path, framework="pt") as theirs:
        assert theirs.metadata() == {"format": "pt"}


def test_our_own_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    packed = pack_header({"b": ("F32", (2,), 8), "a": ("U8", (3, 1), 3)}, {})
    path.write_bytes(packed + bytes(11))
    header = read_header(path)
    assert header.tensors == {
        "b": TensorInfo("F32", (2,), 0, 8),
        "a": TensorInfo("U8", (3, 1), 8, 11),
    }
    assert list(header.tensors) == ["b", "a"]
    assert header.metadata == {}
    assert header.start == len(packed)


def test_tensors_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    said = {"a": entry(4, 8), "b": entry(0, 4)}
    path.write_bytes(packed(said) + bytes(8))
    assert list(read_header(path).tensors) == ["b", "a"]


def test_a_type_to_come_is_carried(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed({"a": entry(0, 5, dtype="F5_NEW")}) + bytes(5))
    assert read_header(path).tensors["a"].end == 5
    assert "F5_NEW" not in DTYPE_BITS


def entry(begin: object, end: object, dtype: object = "F32", shape: object = (1,)) -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def packed(said: object) -> bytes:
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return struct.pack("<Q", len(raw)) + raw


MALFORMED = {
    "empty": b"",
    "too short for a length": b"\x00\x00\x00",
    "nothing but a length": struct.pack("<Q", 8),
    "longer than the file": struct.pack("<Q", 1000) + b"{}",
    "giant": struct.pack("<Q", 2**63) + b"{}",
    "longest of all": b"\xff" * 8 + b"{}",
    "length zero": struct.pack("<Q", 0),
    "no JSON": packed(b'{"a"'),
    "no UTF-8": packed(b'{"\xff": 1}'),
    "a list": packed([]),
    "nested too deep": packed(b"[" * 100_000),
    "no tensor": packed({"a": 1}),
    "no offsets": packed({"a": {"dtype": "F32", "shape": [1]}}),
    "three offsets": packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}})
    + bytes(4),
    "metadata is a list": packed({"__metadata__": [], "a": entry(0, 4)}) + bytes(4),
    "a negative offset": packed({"a": entry(-4, 0)}),
    "an infinite offset": packed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}}'),
    "a fraction": packed({"a": entry(0, 4.5)}) + bytes(4),
    "an offset as text": packed({"a": entry(0, "4")}) + bytes(4),
    "a list as type": packed({"a": entry(0, 4, dtype=["F32"])}) + bytes(4),
    "sizes below zero": packed({"a": entry(0, 8, shape=[-1, -2])}) + bytes(8),
    "wrong size": packed({"a": entry(0, 8)}) + bytes(8),
    "backwards": packed({"a": entry(4, 0)}) + bytes(4),
    "overlap": packed({"a": entry(0, 4), "b": entry(0, 4)}) + bytes(4),
    "partial overlap": packed({"a": entry(0, 8, shape=[2]), "b": entry(4, 8)}) + bytes(8),
    "a gap": packed({"a": entry(0, 4), "b": entry(8, 12)}) + bytes(12),
    "a gap in front": packed({"a": entry(4, 8)}) + bytes(8),
    "truncated": packed({"a": entry(0, 4)}) + bytes(3),
    "too long": packed({"a": entry(0, 4)}) + bytes(5),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(SafetensorError):  # so does the library
        load_file(path)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors.*fetch it again"):
        read_header(path)


def test_a_giant_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)  # sparse
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_header(path)


@pytest.mark.parametrize("cut", [1, 4, 100, 200])
def test_a_cut_off_copy_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(4, 4)}, path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match="fetch it again"):
        read_header(path)
