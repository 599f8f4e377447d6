"""Damaged and odd models: one line that says what is wrong, before anything is written."""

import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokswap.names import BUNDLED_FOLDER

Run = Callable[..., Any]
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"


def change(folder: Path, work: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / MODEL)
    work(tensors)
    save_file(tensors, folder / MODEL, metadata={"format": "pt"})


def truncate(folder: Path) -> None:
    os.truncate(folder / MODEL, (folder / MODEL).stat().st_size - 10)


def index_to(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        shards = dict.fromkeys(load_file(folder / MODEL), "model-1.safetensors")
        (folder / MODEL).rename(folder / "model-1.safetensors")
        shards["model.norm.weight"] = name
        (folder / INDEX).write_text(json.dumps({"weight_map": shards}))
        shutil.copy(folder / "model-1.safetensors", folder.parent / "outside.safetensors")

    return damage


def integers(folder: Path) -> None:
    change(folder, lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].to(torch.int8)}))


def unknown_type(folder: Path) -> None:
    raw = (folder / MODEL).read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header[EMBEDDING]["dtype"] = "F5_NEW"
    new = json.dumps(header).encode()
    (folder / MODEL).write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])


def fewer_rows(folder: Path) -> None:
    def cut(tensors: dict[str, torch.Tensor]) -> None:
        for name in {EMBEDDING, "lm_head.weight"} & set(tensors):
            tensors[name] = tensors[name][:1000].clone()

    change(folder, cut)
    edit(folder, "config.json", vocab_size=1000, pad_token_id=None)


def edit(folder: Path, name: str, **said: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def only_pickles(folder: Path) -> None:
    (folder / MODEL).rename(folder / "pytorch_model.bin")


def unreadable(name: str, content: bytes = b'{"a": ') -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        if name == INDEX:
            (folder / MODEL).unlink()
        (folder / name).write_bytes(content)

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def not_finite(value: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        def spoil(tensors: dict[str, torch.Tensor]) -> None:
            tensors[EMBEDDING][[7, 300], 3] = value

        change(folder, spoil)

    return damage


EITHER = {
    "truncated": (truncate, r"model\.safetensors is \d+ bytes long, its header says \d+; fetch it"),
    "a missing shard": (
        index_to("model-2.safetensors"),
        r"lacks model-2\.safetensors, which model\.safetensors\.index\.json names; fetch it again",
    ),
    "a shard outside": (
        index_to("../outside.safetensors"),
        r"names '\.\./outside\.safetensors', which is no safetensors file in the folder; do not",
    ),
    "integers": (integers, r"stores model\.embed_tokens\.weight as I8; .* give the plain"),
    "an unknown type": (
        unknown_type,
        r"stores model\.embed_tokens\.weight as F5_NEW; .* give the plain",
    ),
    "fewer rows than tokens": (
        fewer_rows,
        r"has \d+ tokens without a row, .* 1000 rows; give the tokenizer that belongs to the model",
    ),
    "no tokenizer.json": (without("tokenizer.json"), r"has no tokenizer\.json"),
    "pickles": (only_pickles, r"only pytorch_model\.bin; load it once with transformers and save_"),
    "config": (unreadable("config.json"), r"config\.json is not valid JSON .*; mend it"),
    "config, bytes": (unreadable("config.json", b"\xff"), r"config\.json is not valid JSON"),
    "index": (unreadable(INDEX), r"index\.json is not valid JSON .*; mend it"),
    "tokenizer": (
        unreadable("tokenizer.json"),
        r"tokenizer\.json is not valid \(JSON.*; fetch it again",
    ),
    "tokenizer_config": (unreadable("tokenizer_config.json"), r"tokenizer_config\.json is not v"),
    "NaN": (
        not_finite(float("nan")),
        r"embed_tokens\.weight holds NaN or infinite numbers in 2 of \d+ tokens' rows: 7 \('.+'\), "
        r"300 \('.+'\); .* fetch it again, or give another checkpoint",
    ),
    "infinite": (not_finite(float("-inf")), r"holds NaN or infinite numbers in 2 of"),
}
BASE = {
    "generation_config": (unreadable("generation_config.json"), r"generation_config\.json is not"),
    "no config": (without("config.json"), r"has no config\.json, so it is no model; give one"),
}


@pytest.fixture
def refused(tokswap: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Transplant with one side damaged; nothing may come of it but one line."""

    def begun(_count: int) -> str:
        pytest.fail("a folder was begun")

    monkeypatch.setattr("tokswap.checkpoint.target.secrets", SimpleNamespace(token_hex=begun))

    def run(side: str, damage: Callable[[Path], None], *flags: str) -> str:
        models = {"base": "tiny-llama", "donor": "tiny-mistral"}
        folder = tmp_path / "in" / side
        shutil.copytree(BUNDLED_FOLDER / models[side], folder)
        damage(folder)
        models[side] = str(folder)
        before = sorted(tmp_path.rglob("*"))
        pair = ("--base", models["base"], "--donor", models["donor"])
        out = ("--out", tmp_path / "new" / "out", "--no-eval", "--no-verify", "--quiet")
        ran = tokswap("transplant", *pair, *out, *flags)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return str(ran.err)

    return run


@pytest.mark.parametrize(("damage", "message"), EITHER.values(), ids=EITHER)
@pytest.mark.parametrize("side", ["base", "donor"])
def test_a_damaged_model_is_refused_in_one_line(
    refused: Callable[..., str], side: str, damage: Callable[[Path], None], message: str
) -> None:
    assert_says(refused(side, damage, "--set", "method.k=8"), message)


@pytest.mark.parametrize(("damage", "message"), BASE.values(), ids=BASE)
def test_a_damaged_base_is_refused_in_one_line(
    refused: Callable[..., str], damage: Callable[[Path], None], message: str
) -> None:
    assert_says(refused("base", damage, "--method", "pieces"), message)


@pytest.mark.parametrize("method", ["mean", "zero", "pieces", "normal"])
def test_rows_that_are_not_finite_are_found_whatever_the_method(
    refused: Callable[..., str], method: str
) -> None:
    damage, message = EITHER["NaN"]
    assert_says(refused("base", damage, "--method", method), message)


def assert_says(line: str, message: str) -> None:
    assert re.search(message, line), line
