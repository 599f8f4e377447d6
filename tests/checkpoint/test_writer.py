"""Writing: whole or not at all, and every byte that is not replaced carried as it is."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tokswap.checkpoint.header import read_header
from tokswap.checkpoint.source import INDEX, Checkpoint
from tokswap.checkpoint.target import RECORD
from tokswap.checkpoint.writer import Replacement, carried_files, tensor_bytes, write_weights

Build = Callable[..., Checkpoint]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def replacement(rows: int, width: int = 4) -> tuple[torch.Tensor, Replacement]:
    new = torch.arange(rows * width, dtype=torch.float32).reshape(rows, width).bfloat16()
    return new, Replacement("BF16", (rows, width), lambda: [new])


def raw_of(path: Path) -> dict[str, bytes]:
    header, raw = read_header(path), path.read_bytes()
    return {
        n: raw[header.start + i.begin : header.start + i.end] for n, i in header.tensors.items()
    }


@pytest.mark.parametrize("rows", [3, 8, 11])
def test_other_tensors_are_carried_byte_for_byte(sharded: Checkpoint, out: Path, rows: int) -> None:
    new, change = replacement(rows)
    write_weights(out, sharded, {"embed.weight": change})
    first, second = sharded.shards
    before, after = raw_of(sharded.files.path(first)), raw_of(out / first)
    assert after["norm.weight"] == before["norm.weight"]
    assert list(after) == list(before)
    found = load_file(out / first)["embed.weight"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, new)
    assert (out / second).read_bytes() == sharded.files.path(second).read_bytes()
    with safe_open(out / first, framework="pt") as theirs:
        assert theirs.metadata() == {"format": "pt"}


@pytest.mark.parametrize("rows", [3, 8, 11])
def test_the_index_says_the_new_size(sharded: Checkpoint, out: Path, rows: int) -> None:
    write_weights(out, sharded, {"embed.weight": replacement(rows)[1]})
    index, before = json.loads((out / INDEX).read_text()), sharded.read_json(INDEX)
    total = sum(t.nbytes for shard in sharded.shards for t in load_file(out / shard).values())
    assert index == before | {"metadata": {"total_size": total, "note": "kept"}}
    assert Checkpoint.open(str(out)).info("embed.weight").shape == (rows, 4)


@pytest.mark.parametrize("metadata", [None, {}, {"total_size": None}, "missing"])
def test_an_index_without_a_size_is_carried(sharded: Checkpoint, out: Path, metadata: Any) -> None:
    index = sharded.read_json(INDEX) | {"metadata": metadata}
    if metadata == "missing":
        del index["metadata"]
    sharded.files.path(INDEX).write_text(json.dumps(index))
    write_weights(out, sharded, {"embed.weight": replacement(3)[1]})
    assert json.loads((out / INDEX).read_text()) == index


def test_nothing_replaced_is_a_copy(sharded: Checkpoint, out: Path) -> None:
    write_weights(out, sharded, {})
    for shard in sharded.shards:
        assert (out / shard).read_bytes() == sharded.files.path(shard).read_bytes()


def test_a_single_file_needs_no_index(checkpoint: Build, out: Path) -> None:
    base = checkpoint(model__safetensors={"e": torch.ones(2, 2), "t": torch.ones(3)})
    change = Replacement("F32", (1, 2), lambda: [torch.zeros(1, 2)])
    write_weights(out, base, {"e": change})
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    found = load_file(out / "model.safetensors")
    assert found["e"].tolist() == [[0, 0]]
    assert found["t"].tolist() == [1, 1, 1]


def test_a_tensor_is_made_once_and_when_it_is_its_turn(checkpoint: Build, out: Path) -> None:
    base = checkpoint(model__safetensors={"a": torch.ones(2), "b": torch.ones(2)})
    made: list[str] = []

    def make(name: str) -> torch.Tensor:
        made.append(name)
        return torch.zeros(2)

    changes: Mapping[str, Replacement] = {
        name: Replacement("F32", (2,), lambda name=name: [make(name)]) for name in "ba"
    }
    write_weights(out, base, changes)
    assert made == ["a", "b"]


@pytest.mark.parametrize("kernel", ["copies", "cannot", "stops half-way", "lacks the call"])
def test_large_tensors_are_copied_in_pieces(
    kernel: str, checkpoint: Build, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.checkpoint.writer.CHUNK", 7)
    copy, calls = os.copy_file_range, [0]

    def limited(*arguments: int) -> int:
        calls[0] += 1
        if kernel == "cannot" or (kernel == "stops half-way" and calls[0] > 3):
            raise OSError(22, "Invalid argument")
        return copy(*arguments)

    if kernel == "lacks the call":
        monkeypatch.delattr("os.copy_file_range")
    else:
        monkeypatch.setattr("os.copy_file_range", limited)
    generator = torch.Generator().manual_seed(0)
    kept = {name: torch.randn(5, 5, generator=generator) for name in ("a", "b", "z")}
    base = checkpoint(model__safetensors={"e": torch.ones(2), **kept})
    write_weights(out, base, {"e": Replacement("F32", (2,), lambda: [torch.zeros(2)])})
    found = load_file(out / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in kept.items())
    assert bool(calls[0]) == (kernel != "lacks the call")


@pytest.mark.parametrize(
    "made", [torch.zeros(3, 2), torch.zeros(2, 2).bfloat16()], ids=["shape", "type"]
)
def test_a_tensor_that_is_not_what_was_said_is_not_written(
    checkpoint: Build, out: Path, made: torch.Tensor
) -> None:
    base = checkpoint(model__safetensors={"e": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"'e'.*bytes"):
        write_weights(out, base, {"e": Replacement("F32", (2, 2), lambda: [made])})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(1, 3).expand(4, 3),
        torch.zeros(0, 3),
        torch.tensor(2.5),
        torch.ones(3, requires_grad=True),
    ],
    ids=["transposed", "expanded", "empty", "scalar", "with gradient"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_bytes_are_in_row_major_order(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    tensor = tensor.to(dtype)
    raw = bytes(tensor_bytes(tensor))
    assert len(raw) == tensor.nbytes
    back = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.zeros(0, dtype=dtype)
    assert torch.equal(back.reshape(tensor.shape), tensor.detach())


def test_size_of_a_replacement() -> None:
    assert Replacement("BF16", (3, 5), lambda: [torch.zeros(1)]).size == 30
    assert Replacement("F32", (), lambda: [torch.zeros(1)]).size == 4


def test_small_files_that_go_along(checkpoint: Build) -> None:
    along = [
        "LICENSE",
        "USE_POLICY.md",
        "preprocessor_config.json",
        "modeling_x.py",
        "tokenization_x.py",
    ]
    left_out = [
        "config.json", "generation_config.json", "README.md", "params.json",
        "adapter_config.json", ".gitattributes",
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenizer.model.v3",
        "vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja",
        "model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", INDEX, RECORD,
        "consolidated.00.pth", "model.gguf", "model.onnx", "x.plan",
    ]  # fmt: skip
    base = checkpoint(**dict.fromkeys([*along, *left_out], b""))
    assert carried_files(base) == sorted(along)
