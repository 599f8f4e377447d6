"""What becomes of the output folder: when a run fails, ends early or would overwrite."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from transplants import swap, wait_for_plan

from tokswap.errors import EvaluationError, OutputError, VerificationError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import default_out, transplant
from tokswap.recipe import make_recipe


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(stop, tmp_path):
    command = [sys.executable, "-m", "tokswap", "transplant", "--base", "tiny-llama"]
    command += ["--donor", "tiny-mistral", "--method", "mean", "--no-eval", "--out", "result"]
    # A process that was itself started in the background hands on that it ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    wait_for_plan(process, tmp_path / "result")
    os.kill(process.pid, stop)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "out"
    swap("tiny-llama", "tiny-mistral", out, method="mean")
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def fail(*_args, **_settings):
        raise VerificationError("it does not load")

    monkeypatch.setattr("tokswap.stages.verify", fail)
    recipe = make_recipe(
        {"base_model": "tiny-llama", "donor": "tiny-mistral", "method": "zero", "out": str(out)}
    )
    with pytest.raises(VerificationError):
        transplant(recipe, overwrite=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_nothing_is_overwritten_unasked(tmp_path):
    out = tmp_path / "out"
    swap("tiny-llama", "tiny-mistral", out, method="mean")
    with pytest.raises(OutputError, match="--overwrite"):
        swap("tiny-llama", "tiny-mistral", out, method="zero")
    recipe = make_recipe(
        {
            "base_model": "tiny-llama",
            "donor": "tiny-mistral",
            "method": "zero",
            "out": str(out),
            "eval": False,
            "verify": False,
        }
    )
    transplant(recipe, overwrite=True)
    assert json.loads((out / "tokswap.json").read_text())["recipe"]["method"] == "zero"
    assert list(tmp_path.iterdir()) == [out]


def test_the_base_and_the_donor_are_never_written_to(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    for out in (base, base / "inside", tmp_path):
        with pytest.raises(OutputError, match="choose another output"):
            swap(base, "tiny-mistral", out)
    assert {p.name for p in base.iterdir()} == {
        p.name for p in (BUNDLED_FOLDER / "tiny-llama").iterdir()
    }


def test_a_users_own_files_in_an_output_are_not_deleted(tmp_path):
    out = tmp_path / "out"
    swap("tiny-llama", "tiny-mistral", out, method="mean")
    (out / "notes.txt").write_text("notes")
    said = {"base_model": "tiny-llama", "donor": "tiny-mistral", "out": str(out)}
    with pytest.raises(OutputError, match=r"did not write \(notes\.txt\)"):
        transplant(make_recipe(said), overwrite=True)
    assert (out / "notes.txt").read_text() == "notes"


def test_plan_only_writes_no_weights(tmp_path):
    recipe = make_recipe(
        {"base_model": "tiny-llama", "donor": "tiny-mistral", "out": str(tmp_path / "out")},
        ["method.k=8"],
    )
    result = transplant(recipe, plan_only=True)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"tokswap.plan", "tokswap.json"}
    assert result.plan.rows == 4096


def test_default_output_is_named_after_both_models_and_the_method():
    said = {"base_model": "org/Some-Model@v1", "donor": "tiny-mistral", "method": "pieces"}
    assert default_out(make_recipe(said)) == "Some-Model-tiny-mistral-pieces"


def test_texts_are_read_before_anything_slow(tmp_path):
    out = tmp_path / "out"
    recipe = {"eval": {"text": [str(tmp_path / "nowhere.txt")]}}
    with pytest.raises(EvaluationError, match=r"nowhere\.txt cannot be read"):
        swap("tiny-llama", "no/such-model", out, **recipe)
    swap("tiny-llama", "tiny-mistral", out, method="mean")
    said = {"base_model": "tiny-llama", "donor": "tiny-mistral", "out": str(out)}
    recipe = make_recipe(said | {"eval": {"text": [str(out / "README.md")]}})
    with pytest.raises(EvaluationError, match="lies in the output folder"):
        transplant(recipe, overwrite=True)
    assert (out / "README.md").is_file()


def test_a_window_that_does_not_fit_is_told_before_the_work(tmp_path):
    with pytest.raises(EvaluationError, match="window 999 is longer than the 256 positions"):
        swap("tiny-llama", "tiny-mistral", tmp_path / "out", eval={"window": 999})
    assert list(tmp_path.iterdir()) == []
