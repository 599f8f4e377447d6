"""``tokswap apply`` on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.said import PAIR

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokswap import transplant

    out = tmp_path_factory.mktemp("made") / "out"
    base, donor = PAIR[1::2]
    transplant(base_model=base, donor=donor, method="mean", out=str(out), plan_only=True)
    return out


def test_apply_says_what_it_did(tokswap: Run, made: Path, tmp_path: Path) -> None:
    flags = ("--base", "tiny-llama", "--out", tmp_path / "out", "--no-eval", "--no-verify")
    ran = tokswap("apply", made, *flags)
    assert ran.code == 0
    assert "6,144 base rows → 4,096 new rows" in ran.out
    assert f"wrote {tmp_path / 'out'}" in ran.out
    ran = tokswap("apply", made, *flags, "--json", "--quiet", "--overwrite", "--dtype", "float32")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["plan"]["recipe"]["method"] == "mean"
    assert said["recipe"]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--base", "tiny-llama"], "nowhere is not a plan"),
        (
            ["{made}", "--base", "tiny-mistral"],
            "another vocabulary than that of 'tiny-mistral'",
        ),
        (["{made}", "--base", "tiny-lama"], "did you mean 'tiny-llama'"),
        (["{made}", *PAIR[:2], "--set", "seed=3"], "seed cannot be changed"),
        (["{made}", *PAIR[:2], "--dtype", "int8"], "dtype: Input should be"),
        (["{made}", *PAIR[:2], "--donor", "tiny-llama"], "'tiny-llama' is not the plan's: id 0"),
    ],
)
def test_errors_are_one_line(
    tokswap: Run, made: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [argument.format(made=made) for argument in arguments]
    ran = tokswap("apply", *given, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not any(tmp_path.iterdir())
