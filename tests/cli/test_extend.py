"""``tokswap extend`` on the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
LIST = ' zymurgy\n\n hypernetwork\n zymurgy\n"hypernet"\n return\n'
TEXT = "Of zymurgy, and hypernetworks: a hypernetwork, the zymurgy.\n" * 3


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.txt" for name in ("tokens", "text")}
    found["tokens"].write_text(LIST)
    found["text"].write_text(TEXT)
    return found


def test_a_run_in_a_process_of_its_own(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--tokens", files["tokens"], "--text", files["text"], "--out", out, "--json", "-q")
    ran = subprocess.run(
        [sys.executable, "-m", "tokswap", "extend", "tiny-llama", *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    said = json.loads(ran.stdout)
    extended = said["extended"]
    assert extended["tokens"] == {" zymurgy": 6144, " hypernetwork": 6145, "hypernet": 6146}
    assert extended["left_out"].keys() == {" return"}
    assert extended["firing"]["counts"] == {" zymurgy": 6, " hypernetwork": 6, "hypernet": 0}
    assert extended["firing"]["silent"]["hypernet"]["occurs"] == 6
    base, result = said["results"]
    assert base["tokens"] > result["tokens"]
    assert base["bytes"] == result["bytes"] == len(TEXT)
    assert result["groups"]["new"]["tokens"] >= 9
    assert said["verified"]["copied_rows"] == 6144
    assert json.loads((out / "tokswap.json").read_text())["extended"] == extended


def test_it_says_what_it_did(tokswap: Run, files: dict[str, Path], tmp_path: Path) -> None:
    flags = ("--text", files["text"], "--no-eval", "--no-verify", "--out", tmp_path / "out")
    ran = tokswap("extend", "tiny-mistral", "-t", files["tokens"], *flags)
    assert ran.code == 0
    line = (
        "3 new tokens by 11 merges and 8 tokens on the way: 4,096 → 4,107 rows, new ones by pieces"
    )
    assert line in ran.out
    assert "2 of 3 fire on text.txt, 12 times; tokens per byte 0." in ran.out
    assert "most often: ' zymurgy' 6, ' hypernetwork' 6\n" in ran.out
    assert "never: 'hypernet', which occurs 6 times, first in ' hypernetwork'\n" in ran.out
    assert f"wrote {tmp_path / 'out'}" in ran.out
    assert "note: 1 token is left out, the first: ' return', it is token" in ran.err
    ran = tokswap("extend", "tiny-mistral", "-t", files["tokens"], *flags)
    assert (ran.code, ran.out) == (1, "")
    assert "--overwrite" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tiny-lama"], 1, "did you mean 'tiny-llama'"),
        (["tiny-llama", "--method", "omp"], 1, "omp reads a donor's weights"),
        (["tiny-llama", "--text", "nowhere"], 1, "nowhere cannot be read"),
        (["tiny-llama", "--set", "method.strategy=worst"], 1, "parameters.strategy"),
        (["tiny-llama", "--as", "words"], 2, "'words' is not one of 'merges', 'added'"),
    ],
)
def test_mistakes_are_told(
    tokswap: Run,
    files: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    ran = tokswap("extend", *arguments, "--tokens", files["tokens"], "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_a_list_is_needed(tokswap: Run) -> None:
    ran = tokswap("extend", "tiny-llama")
    assert ran.code == 2
    assert "--tokens" in ran.err
