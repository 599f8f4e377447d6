"""``tokswap compare``: the table, JSON, files and recipes, and what is refused in one line."""

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.cli import INTERRUPTED
from tokswap.comparison.bench import Bench
from tokswap.methods.mean import Mean
from tokswap.methods.zero import Zero
from tokswap.names import BUNDLED_FOLDER

PAIR = ("compare", "--base", "tiny-llama", "--donor", "tiny-mistral")
Run = Callable[..., Any]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "short.txt"
    path.write_bytes((BUNDLED_FOLDER / "sample.txt").read_bytes()[:1200])
    return path


@pytest.fixture
def flags(text: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("--text", text, "--window", 128, "--out", tmp_path / "out", "--device", "cpu")


@pytest.fixture
def _no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokswap.comparison.compare.draw", lambda compared: None)


def test_the_table_the_files_and_the_same_again(
    tokswap: Run, flags: tuple[object, ...], tmp_path: Path
) -> None:
    said = (
        *PAIR,
        *flags,
        "--methods",
        "zero, mean",
        "-m",
        "pieces",
        "--sweep",
        "pieces.strategy=first,last",
    )
    ran = tokswap(*said)
    assert ran.code == 0, ran.err
    rows = [line.split("  ") for line in ran.out.splitlines() if line.startswith(" ")]
    names = [row[0].strip() for row in rows if row[0].strip("─ ")]
    assert names[:3] == ["method", "the base on its own cut", "the segmentation floor"]
    labels = ["mean", "pieces strategy=first", "pieces strategy=last", "zero"]
    assert sorted(names[3:]) == labels
    assert "window 128, stride 64 tokens" in ran.out
    assert f"wrote {tmp_path / 'out'}" in ran.out
    assert "2 of 4: mean\n" in ran.err
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        bits = {row["label"]: float(row["bits_per_byte"]) for row in csv.DictReader(file)}
    assert names[3:] == sorted(labels, key=lambda label: bits[label])
    for name in names[3:]:
        assert f"{bits[name]:.4f}" in ran.out
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")

    again = tokswap(*said, "--json")
    assert again.code == 0
    assert again.err.count(": from an earlier run") == 4
    found = json.loads(again.out)
    assert [result["label"] for result in found["results"]] == names[3:]
    for result in found["results"]:
        assert result["bits_per_byte"] == bits[result["label"]]
        assert isinstance(result["seconds"], float)
        assert result["method"] == result["label"].partition(" ")[0]
    assert found["own"]["bits_per_byte"] < found["floor"]["bits_per_byte"]
    assert found["out"] == str(tmp_path / "out")
    quiet = tokswap(*said, "--quiet")
    assert quiet.err == ""
    assert "4 of 4 are from an earlier run; --fresh measures anew" in quiet.out


@pytest.mark.usefixtures("_no_chart")
def test_an_interrupt_keeps_what_is_finished(
    tokswap: Run, flags: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Bench.measure

    def stopping(bench: Bench, run: Any) -> Any:
        if run.label == "zero":
            signal.raise_signal(signal.SIGINT)
        return measure(bench, run)

    said = (*PAIR, *flags, "--methods", "mean,zero")
    # A process that a shell has started in the background ignores the signal otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(Bench, "measure", stopping)
        ran = tokswap(*said)
    signal.signal(signal.SIGINT, before)
    assert (ran.code, ran.out) == (INTERRUPTED, "")
    assert f"kept in {tmp_path / 'out'}; the same command goes on from there" in ran.err
    assert not (tmp_path / "out" / "compare.csv").exists()
    ran = tokswap(*said)
    assert ran.code == 0
    assert "1 of 2: mean: from an earlier run" in ran.err
    assert "2 of 2: zero\n" in ran.err


@pytest.mark.usefixtures("_no_chart")
def test_failures_stand_below_the_table_and_fail_the_command_only_together(
    tokswap: Run, flags: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(method: Zero, problem: Any) -> Any:
        raise RuntimeError("not enough\nmemory")

    said = (*PAIR, *flags, "--quiet", "--methods")
    monkeypatch.setattr(Zero, "fill", broken)
    ran = tokswap(*said, "mean,zero")
    assert (ran.code, ran.err) == (0, "")
    assert "failed: zero: RuntimeError: not enough memory\n" in ran.out
    monkeypatch.setattr(Mean, "fill", broken)
    ran = tokswap(*said, "zero")
    assert (ran.code, ran.err) == (1, "")
    assert "the segmentation floor" in ran.out
    assert "failed: zero: RuntimeError: not enough memory\n" in ran.out
    ran = tokswap(*said, "zero", "--json")
    assert ran.code == 1
    assert [failure["method"] for failure in json.loads(ran.out)["failures"]] == ["zero"]


@pytest.mark.usefixtures("_no_chart")
def test_a_recipe_and_flags_over_it(
    tokswap: Run, flags: tuple[object, ...], text: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{base_model: tiny-llama, donor: tiny-mistral, methods: [{method: pieces, label: mine, "
        f"parameters: {{decay: [0.5, 0.25]}}}}, mean], eval: {{text: {text}, window: 99}}, "
        f"out: {tmp_path / 'nowhere'}}}"
    )
    ran = tokswap("compare", recipe, *flags, "--set", "eval.stride=128", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    for label in ("mine decay=0.5", "mine decay=0.25", "mean"):
        assert f" {label} " in ran.out
    assert "window 128, stride 128 tokens" in ran.out
    assert not (tmp_path / "nowhere").exists()


def test_of_several_ranks_the_first_compares(
    tokswap: Run, flags: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    ran = tokswap(*PAIR, *flags)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert not (tmp_path / "out").exists()


def test_a_transplants_recipe_leaves_its_output_alone(
    tokswap: Run, text: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{base_model: tiny-llama, donor: tiny-mistral, method: pieces, verify: false, parameters: "
        f"{{strategy: [first, mean]}}, eval: {{text: {text}}}, out: {tmp_path / 'swapped'}}}"
    )
    ran = tokswap("compare", recipe, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "pieces strategy=first" in ran.out
    assert not (tmp_path / "swapped").exists()
    assert (tmp_path / "swapped-compare" / "compare.png").is_file()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((*PAIR, "--methods", "opm"), "methods.0.method: 'opm' is unknown; did you mean 'omp'"),
        ((*PAIR, "--methods", ","), "methods: the list is empty; name one method or more"),
        ((*PAIR, "--sweep", "k=3"), "--sweep 'k=3' is not of the form METHOD.KEY=V1,V2"),
        ((*PAIR, "--sweep", "omp.q=3,4"), "parameters.q: unknown key"),
        ((*PAIR, "-m", "mean", "--sweep", "omp.k=3"), "omp is not among the methods"),
        ((*PAIR, "--set", "method.k=3", "-m", "omp"), "parameters: stands beside `methods`"),
        ((*PAIR, "--seed", "one"), "--seed 'one' is no list of whole numbers"),
        ((*PAIR, "--seed", "-1"), "seed: give whole numbers from 0 on"),
        ((*PAIR, "--text", "nowhere.txt"), "nowhere.txt cannot be read"),
        ((*PAIR, "--train-text", "nowhere.txt"), "nowhere.txt cannot be read"),
        ((*PAIR, "--window", "100000"), "window"),
        (("compare", "--base", "tiny-llama"), "--donor is missing; give --base and --donor, or"),
        (("compare",), "--base is missing"),
        (("compare", "nowhere.yaml"), "the recipe nowhere.yaml cannot be read"),
        (("compare", "--base", "tiny-lama", "--donor", "x"), "did you mean 'tiny-llama'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(
    tokswap: Run,
    said: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tokswap(*said, "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_a_model_is_refused(tokswap: Run, text: Path, tmp_path: Path) -> None:
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    ran = tokswap(*PAIR, "--text", text, "--out", tmp_path / "out", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert "exists and is no comparison, so nothing is written to it; choose another" in ran.err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
