"""Exit codes, and what goes to stdout and what to stderr, of every command in this process."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from cli.said import PAIR, one_line
from tokswap.cli import app

COMMANDS = [str(command.name) for command in app.registered_commands]
Run = Callable[..., Any]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(tokswap: Run, command: list[str], flag: str) -> None:
    ran = tokswap(*command, flag)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: " in ran.out
    for part in command or COMMANDS:
        assert part in ran.out


def test_commands_are_those_that_are_promised() -> None:
    said = [
        "transplant",
        "run",
        "apply",
        "extend",
        "eval",
        "inspect",
        "held-out",
        "compare",
        "check",
        "embed",
        "methods",
        "models",
    ]
    assert said == COMMANDS


def test_version(tokswap: Run) -> None:
    assert tokswap("--version") == (0, f"tokswap {version('tokswap')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transplnt"], "No such command 'transplnt'"),
        (["--bogus"], "No such option: --bogus"),
        (["transplant"], "Missing option '--base'"),
        (["transplant", "--base", "tiny-llama"], "--donor: is missing; give it, or --like"),
        (["transplant", *PAIR, "--seed", "x"], "Invalid value for '--seed'"),
        (["transplant", *PAIR, "stray"], "unexpected extra argument"),
        (["run"], "Missing argument 'RECIPE.yaml'"),
        (["run", "recipe.yaml", "--method", "omp"], "No such option: --method"),
        (["eval"], "Missing argument 'MODEL...'"),
        (["eval", "tiny-llama", "--dynamic-merges", "0"], "greater than or equal to 1"),
        (["embed", "tiny-llama"], "Missing argument 'TEXT...'"),
        (["embed", "tiny-llama", "a", "--neighbours", "-1"], "'--neighbours'"),
        (["inspect", "--plan"], "requires an argument"),
        (["methods", "--quiet"], "No such option: --quiet"),
    ],
)
def test_usage_errors(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_without_arguments_there_is_help(tokswap: Run) -> None:
    ran = tokswap()
    assert "Usage: " in ran.out + ran.err
    assert ran.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transplant", "--base", "tiny-lama", "--donor", "x/y"], "did you mean 'tiny-llama'"),
        (["transplant", *PAIR, "--method", "opm"], "method: 'opm' is unknown; did you mean 'omp'?"),
        (
            ["transplant", *PAIR, "--set", "method.k=0"],
            "parameters.k: Input should be greater than",
        ),
        (["transplant", *PAIR, "--set", "method.k"], "'method.k' is not of the form key=value"),
        (["transplant", *PAIR, "--seed", "-1"], "seed: Input should be greater than or equal to 0"),
        (["transplant", *PAIR, "--device", "gpu"], "device: give auto, cpu"),
        (
            ["transplant", *PAIR, "--chat-template", "mine"],
            "chat_template: give donor, base, none or the path of a .jinja file, given 'mine'",
        ),
        (
            ["transplant", *PAIR, "--chat-template", "nowhere.jinja"],
            "chat_template: nowhere.jinja cannot be read (No such file or directory); give donor",
        ),
        (["transplant", *PAIR, "--size", "padded"], "tokenizer.size: Input should be 'donor' or"),
        (["transplant", *PAIR, "--pad-to-multiple-of", "0"], "tokenizer.pad_to_multiple_of: "),
        (
            ["transplant", *PAIR, "--bos", "both"],
            "tokenizer.bos: Input should be 'donor' or 'keep'",
        ),
        (["transplant", *PAIR, "--bos", "keep"], "'tiny-mistral' begins them with <s>; leave it"),
        (["run", "nowhere.yaml"], "the recipe nowhere.yaml cannot be read"),
        (["inspect", "--base", "tiny-llama"], "no donor was given"),
        (["inspect", *PAIR, "--token", "return to"], "is not one token of tiny-mistral"),
        (["inspect", *PAIR, "--plan", "nowhere"], "nowhere is not a plan"),
        (["inspect", *PAIR, "--text", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["inspect", *PAIR, "--set", "method.k=0"], "parameters.k: Input should be greater"),
        (["eval", "tiny-lama"], "did you mean 'tiny-llama'"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=str)
def test_errors_are_one_line(
    tokswap: Run, arguments: list[str], flags: list[str], message: str
) -> None:
    line = one_line(tokswap(*arguments, *flags))
    assert line.startswith("error: ")
    assert message in line


def test_several_faults_of_a_recipe_stand_below_one_another(tokswap: Run) -> None:
    ran = tokswap("transplant", *PAIR, "--seed", "-1", "--set", "method.k=0")
    assert (ran.code, ran.out) == (1, "")
    head, *faults = ran.err.splitlines()
    assert head == "error: the request is not valid:"
    assert [fault.partition(":")[0] for fault in faults] == ["  seed", "  parameters.k"]


def test_an_interrupt_has_its_own_code(tokswap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.inspection.inspect", interrupted)
    ran = tokswap("inspect", *PAIR)
    assert ran == (130, "", "interrupted; nothing unfinished was kept\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tokswap.inspection.inspect", broken)
    monkeypatch.setattr("sys.argv", ["tokswap", "inspect", *PAIR])
    from tokswap.cli import main

    with pytest.raises(ZeroDivisionError):
        main()
