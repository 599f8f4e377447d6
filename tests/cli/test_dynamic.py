"""``tokswap eval --dynamic-merges``: what is printed, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.names import BUNDLED_FOLDER

Run = Callable[..., Any]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    sample = (BUNDLED_FOLDER / "sample.txt").read_text(encoding="utf-8")
    path.write_text(sample[:800], encoding="utf-8")
    return path


def test_a_row_for_each_number_of_merges(tokswap: Run, text: Path) -> None:
    call = ("eval", "tiny-llama", "--dynamic-merges", 500, "--text", text, "--window", 64)
    ran = tokswap(*call, "--boundary", "words", "--set", "method.strategy=last", "-q")
    assert (ran.code, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines() if line[1:2].isdigit()]
    assert [row[0] for row in rows[:5]] == ["0", "50", "125", "250", "500"]
    assert [row[-1] for row in rows[:1]] == ["1.000"]
    assert "bytes of notes.txt scored in" in ran.out
    assert "each after a prefix of 32, in batches of 32; rows by pieces, merged within words" in (
        " ".join(ran.out.split())
    )
    assert "note: in 1 of 1 batches nothing was left to merge" in ran.out


def test_json(tokswap: Run, text: Path) -> None:
    call = ("eval", "tiny-llama", "--dynamic-merges", 3, "--text", text, "--window", 64, "--json")
    said = json.loads(tokswap(*call, "--batch", 4).out)
    assert (said["model"], said["batch"], said["boundary"]) == ("tiny-llama", 4, "pretokens")
    assert len(said["lengths"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-llama", "tiny-mistral"], "measures one model, and tiny-llama and tiny-mistral"),
        (["tiny-llama", "--against", "tiny-mistral"], "measures one model, and tiny-llama and"),
        (["tiny-llama", "--boundary", "word"], "'word' is no boundary; did you mean 'words'?"),
        (["tiny-llama", "--window", "9", "--stride", "9"], "a stride of 9 leaves nothing of a"),
        (["tiny-llama", "--method", "omp"], "omp reads a donor's weights and none is given"),
    ],
)
def test_mistakes_are_told_in_a_line(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap("eval", *arguments, "--dynamic-merges", 3)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("flag", ["boundary=words", "batch=3", "method=mean", "set=seed=1"])
def test_what_is_for_dynamic_tokens_needs_them(tokswap: Run, flag: str) -> None:
    name, _, value = flag.partition("=")
    ran = tokswap("eval", "tiny-llama", f"--{name}", value)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"error: --{name} is for dynamic tokens, and none were asked for; give --dynamic-merges N, "
        f"or leave --{name} out\n"
    )
