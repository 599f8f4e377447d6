"""``--refit`` on the command line: what is written, told, kept and refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.bundled.train.corpus import training_prose
from tokswap.cli import INTERRUPTED
from tokswap.names import BUNDLED_FOLDER
from tokswap.refit import heads

Run = Callable[..., Any]
PAIR = ("--base", "tiny-mistral", "--donor", "tiny-llama", "--method", "pieces")
QUICK = ("--no-eval", "--no-verify")
LITTLE = (
    *("--set", "refit.tokens=4_000", "--set", "refit.window=64"),
    *("--set", "refit.strength=30", "--set", "refit.written=0"),
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    size, taken = 0, []
    for document in training_prose():
        taken.append(document)
        if (size := size + len(document)) > 30_000:
            break
    path.write_text("\n\n".join(taken), encoding="utf-8")
    return path


def test_a_dry_run_tells_of_it_and_writes_nothing(tokswap: Run, tmp_path: Path, text: Path) -> None:
    asked = ("transplant", *PAIR, "--refit", text, *LITTLE, "--out", tmp_path / "out", "--dry-run")
    ran = tokswap(*asked)
    assert ran.code == 0, ran.err
    assert "\nrefit: to about 4,0" in ran.out
    assert " of 3,352 new tokens, " in ran.out
    assert " beside the output meanwhile\n" in ran.out
    said = json.loads(tokswap(*asked, "--json").out)["refit"]
    assert said["text"] == ["prose.txt"]
    assert f"{said['seen']:,} of 3,352 new tokens, {said['times']:,} times; its states" in ran.out
    assert not list(tmp_path.iterdir())
    few = tokswap(*asked[:-2], *asked[-1:], "--set", "refit.tokens=1_000")
    assert (few.code, few.out) == (1, "")
    assert "prose.txt is 1,0" in few.err
    without = tokswap("transplant", *PAIR, "--dry-run", "--json")
    assert json.loads(without.out)["refit"] is None


def test_record_card_and_lines_tell_of_it(tokswap: Run, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "out"
    ran = tokswap("transplant", *PAIR, *QUICK, "--refit", text, *LITTLE, "--out", out)
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    record = json.loads((out / "tokswap.json").read_text(encoding="utf-8"))
    about = record["refit"]
    assert about["text"] == ["prose.txt"]
    assert about["output"]["strength"] == 30
    assert record["recipe"]["refit"]["tokens"] == 4_000
    told = f"efit to {about['tokens']:,} tokens of prose.txt, "
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"\nR{told}" in card
    assert f"\nr{told}" in ran.out
    assert "held-out tokens cost" in ran.out
    assert "the refit has read" in ran.err
    # The same by a recipe, and as a plan alone.
    recipe = tmp_path / "recipe.yaml"
    said = {"text": str(text), "tokens": 4_000, "window": 64, "strength": 30, "written": 0}
    names = {"base_model": "tiny-mistral", "donor": "tiny-llama", "method": "pieces"}
    recipe.write_text(json.dumps(names | {"refit": said}))
    ran = tokswap("run", recipe, "--plan-only", "--out", tmp_path / "plan", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["refit"] == about
    plans = [(folder / "tokswap.plan").read_bytes() for folder in (out, tmp_path / "plan")]
    assert len(plans[0]) == len(plans[1])


def test_what_a_stopped_run_has_read_is_gone_on_with(
    tokswap: Run, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_given: Any, **_said: Any) -> Any:
        raise KeyboardInterrupt

    command = ("transplant", *PAIR, *QUICK, "--refit", text, *LITTLE, "--set", "refit.blend=false")
    with monkeypatch.context() as patched:
        patched.setattr(heads, "fit_rows", stopping)
        ran = tokswap(*command, "--out", tmp_path / "out")
    kept = tmp_path / ".out.refit"
    assert ran.code == INTERRUPTED
    assert f"what was read is kept in {kept}; the same command with --resume goes on" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [".out.refit"]

    def never(*_given: Any) -> Any:
        raise AssertionError("it is read already")

    with monkeypatch.context() as patched:
        patched.setattr("tokswap.refit.states.Reader.read", never)
        ran = tokswap(*command, "--out", tmp_path / "out", "--resume")
    assert ran.code == 0, ran.err
    assert not kept.exists()
    assert tokswap(*command, "--out", tmp_path / "whole").code == 0
    name = "model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_compare_has_a_second_column(tokswap: Run, tmp_path: Path, text: Path) -> None:
    seen = tmp_path / "short.txt"
    sample = (BUNDLED_FOLDER / "sample.txt").read_bytes()
    seen.write_bytes(sample[:1000] + b"\n" + text.read_bytes()[:200].rpartition(b"\n")[0])
    said = ("compare", "--base", "tiny-mistral", "--donor", "tiny-llama", "-m", "pieces,mean")
    flags = ("--text", seen, "--window", 128, "--device", "cpu", "--out", tmp_path / "out")
    more = ("--set", "refit.tokens=4_000", "--set", "refit.window=64", "--set", "refit.blend=false")
    ran = tokswap(*said, *flags, "--refit", text, *more, "--set", "refit.written=0")
    assert ran.code == 0, ran.err
    (head,) = (line for line in ran.out.splitlines() if "refitted" in line)
    assert head.split().index("refitted") > head.split().index("new")
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    for row in (row for row in rows.values() if row["refitted"]):
        own, floor = float(row["refitted"]), float(row["refitted_over_floor"])
        assert own - floor == pytest.approx(float(row["bits_per_byte"]) - float(row["over_floor"]))
        assert float(row["refit_seconds"]) > 0
        assert f"{own:.4f}" in ran.out
    assert float(rows["mean"]["refitted"]) < float(rows["mean"]["bits_per_byte"])
    found = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert "of the lines that are measured on stand in the refit's text" in found["seen_before"]
    assert f"note: {found['seen_before']}\n" in ran.out
    assert {result["refit"]["about"]["text"][0] for result in found["results"]} == {"prose.txt"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--refit", "nowhere.txt"], r"nowhere.txt cannot be read: No such file"),
        (["--refit", "short.txt"], "short.txt is 2 of the donor's tokens long, and a refit needs"),
        (["--refit-minutes", "1"], "refit: give text files as `text`"),
    ],
    ids=["no file", "too short", "no text"],
)
def test_bad_input_is_one_line(
    tokswap: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("ok ok")

    def never(*_given: Any, **_said: Any) -> Any:
        raise AssertionError("a plan is made first")

    monkeypatch.setattr("tokswap.pipeline.plan_for", never)
    ran = tokswap("transplant", *PAIR, *QUICK, *flags, "--out", "out")
    assert ran.code == 1
    assert said in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_like_has_its_rows_already(tokswap: Run, tmp_path: Path, text: Path) -> None:
    out = ("--out", tmp_path / "out")
    ran = tokswap("transplant", "--base", "a", "--like", "b", "--refit", text, *out)
    assert ran.code == 1
    assert "refit: the rows of a transplanted base are made already; leave it out" in ran.err
