"""``tokswap hypernet info``, and what a transplant says of a network that does not suit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hypernet.made import for_base
from tokswap.checkpoint.source import Checkpoint

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """One for tiny-llama, which knows languages."""
    folder = tmp_path_factory.mktemp("net") / "net"
    return for_base(folder, Checkpoint.open("tiny-llama").vocabulary, 128, "language")


def test_info(tokswap: Run, network: Path) -> None:
    ran = tokswap("hypernet", "info", network)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[:5] == [
        "base:      org/base",
        "rows:      of width 128, one table for both roles",
        "reads:     6,144 rows of the base, 0 of its own; 5 pieces of a token",
        "bias:      predicted",
        "languages: de, en, fr",
    ]
    said = json.loads(tokswap("hypernet", "info", network, "--json").out)
    assert said["languages"] == ["de", "en", "fr"]
    assert said["weights"] == ["model.safetensors"]
    assert f"size:      {said['parameters']:,} parameters in model.safetensors" in ran.out
    assert said["identity"] in ran.out


def test_info_of_what_is_none(tokswap: Run) -> None:
    ran = tokswap("hypernet", "info", "tiny-llama")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: tiny-llama is no hypernetwork: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("base", "settings", "message"),
    [
        ("tiny-llama", [], "give --set method.language=… (de, en, fr)"),
        ("tiny-llama", ["language=es"], "knows no language 'es'"),
        ("tiny-mistral", ["language=de"], "of width 128, and those of 'tiny-mistral' have width"),
        ("tiny-llama", ["language=de", "dtype=int8"], "parameters.dtype: "),
    ],
)
def test_what_does_not_suit_is_told_at_once(
    base: str, settings: list[str], message: str, tokswap: Run, network: Path, tmp_path: Path
) -> None:
    said = [f"checkpoint={network}", *settings]
    flags = [part for setting in said for part in ("--set", f"method.{setting}")]
    pair = ("--base", base, "--donor", "tiny-llama", "--out", tmp_path / "out")
    ran = tokswap("transplant", *pair, "--method", "hypernet", *flags)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
