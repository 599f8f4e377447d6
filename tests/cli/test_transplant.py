"""Whole transplants on the command line: flags and recipes, and what a killed one left."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_flags_and_recipe_give_the_same_bytes(tokswap: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The value of a name is looked up when it is used: 12 + 30 = 42.\n" * 20)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "base_model: tiny-llama\ndonor: tiny-mistral\nmethod: omp\nparameters: {k: 8}\n"
        f"seed: 3\neval: {{text: [{text}]}}\nverify: false\nout: {tmp_path / 'b'}\n"
    )
    flags = ["--base", "tiny-llama", "--donor", "tiny-mistral", "-m", "omp", "--set", "method.k=8"]
    flags += ["--seed", "3", "--text", str(text), "--no-verify", "--out", str(tmp_path / "a")]
    for arguments in (["transplant", *flags], ["run", str(recipe)]):
        ran = tokswap(*arguments, "--json")
        assert ran.code == 0, ran.err
        said = json.loads(ran.out)
        assert [result["model"] for result in said["results"]] == ["tiny-llama", said["out"]]
    a = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    b = {file.name: file.read_bytes() for file in (tmp_path / "b").iterdir()}
    assert a == b
    assert "figures" in json.loads(a["tokswap.json"])


def test_a_killed_transplant_is_cleared_by_the_next(
    tokswap: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["transplant", "--base", "tiny-llama", "--donor", "tiny-mistral"]
    arguments += ["--method", "mean", "--no-eval", "--out", "result"]
    first = subprocess.Popen([sys.executable, "-m", "tokswap", *arguments], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".result.*.partial/tokswap.plan")):  # it verifies for a while
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()
    first.communicate()
    (stage,) = tmp_path.iterdir()
    second = tokswap(*arguments, "--no-verify")
    assert second.code == 0, second.err
    note = f"note: {stage}, left by an earlier run that was killed, was removed"
    assert note in second.err
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
