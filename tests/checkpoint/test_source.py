"""Checkpoints that are read from: which file holds what, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tokswap.checkpoint.source import INDEX, Checkpoint
from tokswap.errors import CheckpointError, NameUnknownError, VocabularyError

Build = Callable[..., Checkpoint]
ONE = {"a": torch.arange(6.0).reshape(2, 3)}


def test_a_single_file(checkpoint: Build) -> None:
    found = checkpoint(model__safetensors=ONE, config__json={"vocab_size": 2})
    assert found.has_weights
    assert found.shard_of == {"a": "model.safetensors"}
    assert found.shards == ["model.safetensors"]
    assert found.info("a").shape == (2, 3)
    assert torch.equal(found.load("a"), ONE["a"])
    assert found.config == {"vocab_size": 2}


def test_a_sharded_index(sharded: Checkpoint) -> None:
    assert sharded.shards == ["model-1.safetensors", "model-2.safetensors"]
    for name, shard in sharded.shard_of.items():
        theirs = load_file(sharded.files.path(shard))[name]
        assert torch.equal(sharded.load(name), theirs)
        assert sharded.load(name).dtype == theirs.dtype
        assert sharded.info(name).shape == tuple(theirs.shape)


def test_a_single_file_beats_an_index(sharded: Checkpoint, checkpoint: Build) -> None:
    """As in transformers, which looks for the single file first."""
    assert dict(checkpoint(model__safetensors=ONE).shard_of) == {"a": "model.safetensors"}


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors", "/x.safetensors", "sub/x.safetensors", "./x.safetensors", "..",
        "x.bin", "", 3, None, ["x.safetensors"], {"x": 1},
    ],
)  # fmt: skip
def test_an_index_that_leaves_the_folder_is_refused(
    checkpoint: Build, tmp_path: Path, name: Any
) -> None:
    (tmp_path / "x.safetensors").touch()
    found = checkpoint(**{INDEX: {"weight_map": {"a": name}}})
    with pytest.raises(CheckpointError, match=r"no safetensors file in the folder; do not trust"):
        _ = found.shard_of


def test_a_missing_shard_is_named(checkpoint: Build) -> None:
    found = checkpoint(**{INDEX: {"weight_map": {"a": "model-2.safetensors"}}})
    with pytest.raises(CheckpointError, match=r"base lacks model-2\.safetensors, which .*index"):
        _ = found.shard_of


@pytest.mark.parametrize("said", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_an_index_without_a_map_is_refused(checkpoint: Build, said: Any) -> None:
    with pytest.raises(CheckpointError, match="has no weight_map; fetch it again"):
        _ = checkpoint(**{INDEX: said}).shard_of


def test_an_index_that_disagrees_with_its_file_is_refused(checkpoint: Build) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}
    found = checkpoint(**{"model-1__safetensors": ONE, INDEX: index})
    for read in (found.info, found.load):
        with pytest.raises(
            CheckpointError, match=r"model-1\.safetensors lacks 'b', which the index"
        ):
            read("b")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.gguf", "consolidated.00.pth"])
def test_other_weights_are_told_how_to_convert(checkpoint: Build, file: str) -> None:
    found = checkpoint(**{file: b"x"})
    assert not found.has_weights
    with pytest.raises(CheckpointError, match=f"no safetensors weights, only {file}.*save_pre"):
        _ = found.shard_of


def test_a_bare_tokenizer_has_no_weights(checkpoint: Build) -> None:
    found = checkpoint(tokenizer__json={})
    assert not found.has_weights
    with pytest.raises(CheckpointError, match=r"no weights .*give a folder that holds a model"):
        _ = found.shard_of
    with pytest.raises(CheckpointError, match=r"has no config\.json, so it is no model"):
        _ = found.config


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"[]", b"3"])
def test_a_malformed_config_is_refused(checkpoint: Build, raw: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is no.*mend it"):
        _ = checkpoint(config__json=raw).config


def test_a_truncated_file_is_refused_before_a_tensor_is_loaded(checkpoint: Build) -> None:
    found = checkpoint(model__safetensors=ONE)
    path = found.files.path("model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is .* bytes long"):
        found.load("a")


def test_a_tokenizer_is_read_with_the_models_config(checkpoint: Build) -> None:
    model = {"type": "BPE", "vocab": {"a": 0}}
    added = [{"id": 1, "content": "<e>", "special": True}]
    files = {"tokenizer__json": {"model": model, "added_tokens": added}}
    found = checkpoint(**files, config__json={"eos_token_id": 1})
    assert found.vocabulary.roles == {"eos": 1}
    assert found.vocabulary.name == found.name
    with pytest.raises(VocabularyError, match=r"has no tokenizer\.json"):
        _ = checkpoint("bare", config__json={}).vocabulary


def test_nothing_is_read_before_it_is_asked_for(checkpoint: Build) -> None:
    found = checkpoint(config__json=b"{", tokenizer__json=b"{", model__safetensors=b"")
    assert found.has_weights
    assert found.location.kind == "folder"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(NameUnknownError, match="no folder here"):
        Checkpoint.open("no such model")


def test_the_index_is_json(sharded: Checkpoint) -> None:
    assert sharded.read_json(INDEX) == json.loads(sharded.files.path(INDEX).read_text())
