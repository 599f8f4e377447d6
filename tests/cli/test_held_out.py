"""``tokswap held-out``: what it prints, and what it refuses in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAIR = ("held-out", "--base", "tiny-llama", "--donor", "tiny-mistral")
UNTIED = ("held-out", "-b", "tiny-mistral", "-d", "tiny-llama")
Run = Callable[..., Any]


def test_the_figures_and_the_tokens(
    tokswap: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tokswap(*UNTIED, "--count", 40, "--set", "method.k=4", "--worst", 3, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    for role in ("input", "output"):
        assert (
            f"40 of 2,59{'3' if role == 'input' else '2'} anchors held out ({role} rows)" in ran.out
        )
        assert f"the best in the base, {role} rows" in ran.out
        assert f"the worst in the base, {role} rows" in ran.out
    for row in ("donor: by omp", "base: by omp", "base: the mean row", "base: any other anchor"):
        assert ran.out.count(row) == 2
    assert list(tmp_path.iterdir()) == []


def test_as_json_every_token_is_there(tokswap: Run) -> None:
    flags = ("--count", 30, "--seed", 3, "--set", "method.k=4", "--json", "--quiet")
    ran = tokswap(*PAIR, *flags)
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert (said["base_model"], said["donor"], said["method"]) == (*PAIR[2::2], "omp-pieces")
    assert (said["parameters"]["k"], said["seed"], said["tied"]) == (4, 3, True)
    assert list(said["roles"]) == ["input"]
    assert len(said["roles"]["input"]["tokens"]) == said["roles"]["input"]["held_out"] == 30


def test_all_are_held_out_in_parts(tokswap: Run) -> None:
    ran = tokswap(*PAIR, "--all", "--set", "method.k=2", "--worst", 0)
    assert "2,593 of 2,593 anchors held out (tied), in 11 parts" in ran.out
    assert "the best" not in ran.out


def test_a_sweep_marks_the_best(tokswap: Run) -> None:
    flags = ("--count", 64, "--sweep", "k=2,64")
    ran = tokswap(*PAIR, *flags, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert [row[0] for row in rows if row[-1] == "best"] == ["2"]
    said = json.loads(tokswap(*PAIR, *flags, "--json", "--quiet").out)
    assert said["key"] == "k"
    assert [part["value"] for part in said["values"]] == ["2", "64"]
    assert [part["parameters"]["k"] for part in said["values"]] == [2, 64]
    own = [
        part["roles"]["input"]["base"]["method"]["centered_cosine"]["mean"]
        for part in said["values"]
    ]
    assert own[0] > own[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--count", 0), "held_out: 0 anchors tell nothing; give a number, or all"),
        (("--count", -3), "held_out: give a number of anchors, all, or false, given -3"),
        (("--count", 3, "--all"), "both --all and --count were given; give one of them"),
        (("--method", "pieces"), "pieces reads no donor's weights"),
        (("--sweep", "k"), "--sweep 'k' is not of the form KEY=V1,V2"),
        (("--sweep", "k=,"), "--sweep 'k=,' is not of the form"),
        (("--sweep", "q=3"), "parameters.q: unknown key"),
        (("--sweep", "k=4,145"), "omp with k=145 has more coefficients than 'tiny-mistral'"),
    ],
)
def test_what_tells_nothing_is_refused_in_one_line(
    tokswap: Run, flags: tuple[object, ...], message: str
) -> None:
    ran = tokswap(*PAIR, *flags, "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
