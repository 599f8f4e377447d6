"""``tokswap check`` in this process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.cli.check import Engine
from tokswap.evaluation.draft_rules import ENGINES
from tokswap.names import BUNDLED_FOLDER

Run = Callable[..., Any]
QUICK = ("--prompts", 2, "--tokens", 12, "--draft-tokens", 3, "--device", "cpu")


def test_every_way_can_be_required() -> None:
    assert [str(engine) for engine in Engine] == list(ENGINES)


def test_a_table_and_the_acceptance(tokswap: Run) -> None:
    ran = tokswap("check", "tiny-llama", "tiny-llama", *QUICK)
    assert ran.code == 0
    for name in ENGINES.values():
        assert name in ran.out
    assert "both have 6,144 rows and the same tokens" in ran.out
    assert "acceptance: 100.0% of " in ran.out
    assert "4.00 tokens for each pass of tiny-llama" in ran.out
    assert "to do" not in ran.out
    assert "measure acceptance" in ran.err
    assert "Loading weights" not in ran.err


def test_rules_alone(tokswap: Run) -> None:
    ran = tokswap("check", "tiny-mistral", "tiny-llama", "--no-measure")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("to do: `tokswap transplant --base tiny-mistral --donor tiny-llama`") == 1
    assert "acceptance: not measured (not asked for)" in ran.out


def test_json(tokswap: Run) -> None:
    ran = tokswap("check", "tiny-llama", "tiny-llama", *QUICK, "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert [verdict["engine"] for verdict in said["verdicts"]] == list(ENGINES)
    assert said["acceptance"]["rate"] == 1.0
    assert said["acceptance"]["draft_tokens"] == 3


@pytest.mark.parametrize(("engine", "code"), [("vllm-tli", 0), ("vllm", 1), ("llama.cpp", 1)])
def test_a_required_engine_that_says_no_is_an_error(tokswap: Run, engine: str, code: int) -> None:
    asked = ("check", "tiny-mistral", "tiny-llama", "--no-measure", "--json", "--require", engine)
    ran = tokswap(*asked)
    assert ran.code == code
    assert json.loads(ran.out)["draft"] == "tiny-mistral"  # answered all the same
    if code:
        line, end, rest = ran.err.partition("\n")
        assert (end, rest) == ("\n", "")
        assert line.startswith("error: tiny-mistral cannot draft for tiny-llama by the rules of ")
        assert "; `tokswap transplant --base tiny-mistral" in line
    else:
        assert ran.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-lama", "tiny-llama"], "did you mean 'tiny-llama'"),
        (["tiny-llama", "tiny-lama"], "did you mean 'tiny-llama'"),
        (["tiny-llama", "tiny-llama", "--text", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["tiny-llama", "tiny-llama", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["tiny-llama", "tiny-llama", "--tokens", "300"], "256 positions, too few"),
    ],
)
def test_errors_are_one_line(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap("check", *arguments, "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-llama"], "Missing argument 'TARGET'"),
        (["tiny-llama", "tiny-llama", "--require", "ollama"], "Invalid value for '--require'"),
        (["tiny-llama", "tiny-llama", "--prompts", "0"], "Invalid value for '--prompts'"),
    ],
)
def test_usage_errors(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap("check", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_bare_tokenizer_is_no_model(tokswap: Run, tmp_path: Path) -> None:
    shutil.copy(BUNDLED_FOLDER / "tiny-llama" / "tokenizer.json", tmp_path)
    ran = tokswap("check", tmp_path, "tiny-llama")
    assert (ran.code, ran.out) == (1, "")
    assert "has no config.json, so it is no model; give one" in ran.err


def test_an_interrupt_while_it_measures(tokswap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokswap.evaluation import draft

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(draft, "measure_acceptance", interrupted)
    ran = tokswap("check", "tiny-llama", "tiny-llama", "--quiet")
    assert ran == (130, "", "interrupted; nothing unfinished was kept\n")
