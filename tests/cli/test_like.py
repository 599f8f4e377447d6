"""``tokswap transplant --like`` on the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.pipeline import transplant

Run = Callable[..., Any]
LIKE = ("--base", "tiny-llama", "--like")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    said = {"donor": "tiny-mistral", "method": "mean", "out": str(out)}
    transplant(base_model="tiny-llama", **said, eval=False, verify=False)
    return out


def test_a_process_of_its_own_does_it(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--strength", "0.3", "--out", str(out), "--no-eval", "--no-verify")
    ran = subprocess.run(
        [sys.executable, "-m", "tokswap", "transplant", *LIKE, str(made), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"2,884 shared, 1,209 missing (by {made})" in ran.stdout
    assert f"wrote {out}" in ran.stdout
    assert f"note: the body of {made} is that of tiny-llama, so nothing is added" in ran.stderr
    assert (out / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


def test_a_recipe_does_the_same(tokswap: Run, made: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "like.yaml"
    recipe.write_text(f"base_model: tiny-llama\nlike: {made}\neval: false\nverify: false\n")
    ran = tokswap("run", recipe, "--out", tmp_path / "out", "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["recipe"]["like"] == said["like"]["name"] == str(made)
    assert said["recipe"]["original"] == "tiny-llama"
    assert said["recipe"]["strength"] == 0.5
    assert said["plan"]["recipe"]["method"] == "mean"
    assert "method" not in said["recipe"]
    ran = tokswap("run", recipe, "--out", tmp_path / "dry", "--dry-run")
    assert ran.code == 0
    assert "dry run: nothing was written" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*LIKE, "{made}", "--donor", "tiny-mistral"], "like: stands in the place of a donor"),
        ([*LIKE, "{made}", "--method", "omp"], "method: the rows of a transplanted base are made"),
        ([*LIKE, "{made}", "--set", "method.k=3"], "parameters: the rows of a transplanted"),
        ([*LIKE, "{made}", "--bos", "keep"], "tokenizer: the rows of a transplanted base are"),
        ([*LIKE, "{made}", "--strength", "50"], "strength: Input should be less than or equal to"),
        ([*LIKE, "{made}", "--plan-only"], "plan-only: like a transplanted base there is nothing"),
        ([*LIKE, "{made}", "--dry-run", "--plan-only"], "plan-only: like a transplanted base"),
        ([*LIKE, "nowhere"], "'nowhere' is no"),
        ([*LIKE, "{made}", "--original", "nowhere"], "'nowhere' is no"),
        (["--base", "tiny-mistral", "--like", "{made}"], "is no fine-tune of 'tiny-llama', of whi"),
        (["--base", "tiny-llama", "--donor", "tiny-mistral", "--strength", "1"], "strength: says"),
    ],
)
def test_errors_are_one_line(
    tokswap: Run, made: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [argument.format(made=made) for argument in arguments]
    ran = tokswap("transplant", *given, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not any(tmp_path.iterdir())
