"""``tokswap transplant`` and ``tokswap run``: flags, recipes, and what a killed run left."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transplants import wait_for_plan

from cli.said import PAIR, one_line
from tokswap.methods import DEFAULT
from tokswap.names import BUNDLED_FOLDER
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import load_recipe

Run = Callable[..., Any]


def test_transplant(tokswap: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (
        "transplant",
        *PAIR,
        "--method",
        "pieces",
        "--no-eval",
        "--no-verify",
        "--out",
        out,
    )
    ran = tokswap(*arguments)
    assert ran.code == 0
    assert ran.out.startswith("6,144 base rows → 4,096 new rows: ")
    assert ran.out.splitlines()[-1].startswith(f"wrote {out} (align ")
    assert "write weights" in ran.err
    assert not [line for line in ran.err.splitlines() if line in ran.out.splitlines()]
    assert {"config.json", "model.safetensors", "tokswap.json", PLAN_FILE} <= {
        path.name for path in out.iterdir()
    }
    again = one_line(tokswap(*arguments, "--quiet"))
    assert str(out) in again
    assert "--overwrite" in again


def test_plan_only_as_json(tokswap: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--method", "pieces", "--seed", "3", "--set", "method.strategy=last")
    ran = tokswap("transplant", *PAIR, *flags, "--plan-only", "--json", "--quiet", "-o", out)
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["out"] == str(out)
    assert said["recipe"]["seed"] == 3
    assert said["recipe"]["parameters"]["strategy"] == "last"
    assert said["results"] == []
    assert {path.name for path in out.iterdir()} == {PLAN_FILE, "tokswap.json"}
    assert Plan.load(out / PLAN_FILE).rows == said["counts"]["donor_size"] == 4096
    token = tokswap("inspect", "--plan", out, "--token", "<s>")
    assert token.code == 0
    assert "<|begin_of_text|>" in token.out


@pytest.mark.parametrize("command", ["transplant", "run"])
def test_a_dry_run_tells_and_writes_nothing(tokswap: Run, tmp_path: Path, command: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base_model: tiny-llama\ndonor: tiny-mistral\nmethod: pieces\n")
    what = ["run", recipe] if command == "run" else ["transplant", *PAIR, "-m", "pieces"]
    ran = tokswap(*what, "--out", tmp_path / "out", "--dry-run", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    for said in (
        "fetch: nothing",
        "compute: 6,144 base rows → 4,096 new rows",
        "6144×128 → 4096×128",
        "memory at the peak, about: ",
        f"write to {tmp_path / 'out'}",
        "vocabulary tensors",
        f"the disk of {tmp_path} (output) has room",
        "dry run: nothing was written",
    ):
        assert said in ran.out
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("name", ["123", "a: b", "null", "x #y", "2024-13-45"])
def test_run_takes_a_recipe_with_settings_and_a_folder_of_any_name(
    tokswap: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = "base_model: tiny-llama\ndonor: tiny-mistral\nmethod: pieces\nout: elsewhere\n"
    recipe.write_text(text)
    asked = []

    def noted(*said: Any, **flags: Any) -> None:
        asked.append((said, flags))
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.pipeline.transplant", noted)
    flags = ("--set", "method.strategy=last", "--plan-only", "--overwrite", "--resume")
    assert tokswap("run", recipe, *flags, "--out", name).code == 130
    expected = load_recipe(recipe, ["method.strategy=last"]).model_copy(update={"out": name})
    assert asked == [((expected,), {"overwrite": True, "plan_only": True, "resume": True})]


def test_flags_make_the_recipe(tokswap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(recipe: Any, **_: Any) -> None:
        asked.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.pipeline.transplant", noted)
    tokswap("transplant", *PAIR)
    tokswap("transplant", *PAIR, "--no-eval", "--no-verify", "--device", "cpu", "-m", "mean")
    tokswap("transplant", *PAIR, "--text", "a.txt", "--text", "b.txt", "--set", "eval.window=64")
    tokswap("transplant", *PAIR, "--bos", "keep", "--set", "tokenizer.pad_to_multiple_of=64")
    plain, bare, measured, kept = asked
    assert plain.record() == {**plain.record(), "method": DEFAULT, "verify": True, "seed": 0}
    assert plain.eval is not None
    assert plain.out is None
    assert (bare.eval, bare.verify, bare.device, bare.method) == (None, False, "cpu", "mean")
    assert (measured.eval.text, measured.eval.window) == (["a.txt", "b.txt"], 64)
    assert (plain.tokenizer.bos, kept.tokenizer.bos) == ("donor", "keep")
    assert kept.tokenizer.pad_to_multiple_of == 64


@pytest.mark.parametrize("flag", ["--keep-tensor", "--drop-tensor"])
def test_a_tensor_that_is_not_stored_is_named_with_what_is_near(
    tokswap: Run, tmp_path: Path, flag: str
) -> None:
    line = one_line(
        tokswap("transplant", *PAIR, "--out", tmp_path / "out", flag, "model.nrom.weight")
    )
    assert "stores no tensor 'model.nrom.weight'; did you mean 'model.norm.weight'" in line
    recipe = tmp_path / "r.yaml"
    recipe.write_text("base_model: tiny-llama\ndonor: tiny-mistral\n")
    line = one_line(tokswap("run", recipe, "--out", tmp_path / "out", flag, "lm_heat"))
    assert "stores no tensor 'lm_heat'" in line


def test_settings_of_the_output_role_are_not_lost_silently(tokswap: Run, tmp_path: Path) -> None:
    flags = ("-m", "pieces", "--set", "method.output.strategy=first", "--plan-only", "--json")
    tied = tokswap("transplant", *PAIR, *flags, "-o", tmp_path / "tied")
    assert [w for w in json.loads(tied.out)["warnings"] if "those of the output role" in w]
    assert "note: the base's head is its embedding (tied)" in tied.err
    pair = ("--base", "tiny-mistral", "--donor", "tiny-llama")
    untied = tokswap("transplant", *pair, *flags, "-o", tmp_path / "untied")
    assert not [w for w in json.loads(untied.out)["warnings"] if "output role" in w]


def test_a_bare_tokenizer_cannot_be_a_base(tokswap: Run, tmp_path: Path) -> None:
    shutil.copy(BUNDLED_FOLDER / "tiny-llama" / "tokenizer.json", tmp_path)
    message = one_line(tokswap("transplant", "-b", tmp_path, "-d", "tiny-mistral", "-m", "mean"))
    assert "has no config.json, so it is no model; give one" in message


def test_the_size_is_said_by_flags(tokswap: Run, tmp_path: Path) -> None:
    flags = ("--method", "zero", "--plan-only", "--overwrite", "--out", tmp_path / "out", "--json")
    for said, rows in (
        (("--size", "tight"), 4096),
        (("--size", "tight", "--pad-to-multiple-of", 1000), 5000),
        (("--pad-to-multiple-of", 100, "--set", "tokenizer.size=donor"), 4100),
    ):
        ran = tokswap("transplant", *PAIR, *flags, *said)
        assert json.loads(ran.out)["counts"]["donor_size"] == rows


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
    wait_for_plan(first, tmp_path / "result")
    first.kill()
    first.communicate()
    (stage,) = tmp_path.iterdir()
    second = tokswap(*arguments, "--no-verify")
    assert second.code == 0, second.err
    note = f"note: {stage}, left by an earlier run that was killed, was removed"
    assert note in second.err
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
