"""The bundled pair compared for real: the figures of transplant and eval, kept and found again."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.comparison import identity
from tokswap.comparison.bench import Bench
from tokswap.comparison.compare import Compared, compare
from tokswap.comparison.kept import Kept
from tokswap.comparison.recipe import make_comparison
from tokswap.comparison.store import Store
from tokswap.errors import EvaluationError, MethodError, OutputError, RecipeError
from tokswap.evaluation.measure import evaluate
from tokswap.methods.normal import Normal
from tokswap.methods.zero import Zero
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no chart but that of the comparison that several tests share."""
    monkeypatch.setattr("tokswap.comparison.compare.draw", lambda compared: None)


def figures(compared: Compared) -> dict[str, float]:
    return {result.label: result.bits_per_byte for result in compared.results}


def test_the_figures_are_those_of_transplant_and_eval(
    compared: Compared, text: Path, tmp_path: Path
) -> None:
    """Rows that are combined, and rows that are drawn with the second seed."""
    flags: dict[str, Any] = {"eval": False, "verify": False, "held_out": False}
    for label, said in {
        "omp k=4": {"method": "omp", "parameters": {"k": 4}},
        "normal": {"method": "normal", "seed": 1},
    }.items():
        out = tmp_path / label
        transplant(base_model="tiny-llama", donor="tiny-mistral", out=str(out), **said, **flags)
        (score,) = evaluate(str(out), texts=[text], window=128, stride=64).results
        (found,) = (result for result in compared.results if result.label == label)
        assert found.each[-1] == pytest.approx(score.bits_per_byte, rel=1e-5)
        if label != "normal":
            for name, part in score.groups.items():
                own = found.figures["groups"][name]
                assert (own["tokens"], own["bytes"]) == (part.tokens, part.bytes)
                assert own["bits_per_byte"] == pytest.approx(part.bits_per_byte, rel=1e-5)
    own = evaluate("tiny-llama", texts=[text], window=128, stride=64).results[0]
    assert compared.own["bits_per_byte"] == pytest.approx(own.bits_per_byte, rel=1e-5)


def test_results_are_sorted_and_seeds_summed_up(compared: Compared) -> None:
    bits = list(figures(compared).values())
    assert bits == sorted(bits)
    assert set(figures(compared)) == {"pieces", "omp k=2", "omp k=4", "normal"}
    seeds = {result.label: result.seeds for result in compared.results}
    assert seeds == {"pieces": (), "omp k=2": (), "omp k=4": (), "normal": (0, 1)}
    (drawn,) = (result for result in compared.results if result.label == "normal")
    assert drawn.each[0] != drawn.each[1]
    assert min(drawn.each) < drawn.bits_per_byte < max(drawn.each)
    assert not compared.failures


def test_the_parts_add_up(compared: Compared) -> None:
    for result in compared.results:
        groups = result.figures["groups"]
        total = sum(part["of_total"] for part in groups.values())
        assert total == pytest.approx(result.bits_per_byte, rel=1e-5)
        bins = result.figures["frequency"]
        assert sum(part["tokens"] for part in bins) == groups["new"]["tokens"] > 20
        nats = sum(part["bits_per_byte"] * part["bytes"] for part in bins) * math.log(2)
        new = groups["new"]["bits_per_byte"] * groups["new"]["bytes"] * math.log(2)
        assert nats == pytest.approx(new, rel=1e-4)
    own = [result.figures["groups"]["new"]["tokens"] for result in compared.results]
    assert set(own) == {compared.floor["groups"]["new"]["tokens"]}
    assert compared.own["groups"] == {}


def test_the_folder_holds_the_same(compared: Compared) -> None:
    said = json.loads((compared.folder / "compare.json").read_text())
    assert said.pop("kind") == "tokswap comparison"
    assert said.pop("pair") == ["tiny-llama", "tiny-mistral"]
    assert said == json.loads(json.dumps(compared.to_dict()))
    assert make_comparison(said["asked"]).runs == compared.asked.runs
    for result in said["results"]:
        assert {"method", "label", "bits_per_byte", "seconds", "peak_memory"} <= set(result)
        make_comparison({"base_model": "a", "donor": "b", **result["settings"]})
    with (compared.folder / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["own", "floor", *figures(compared)]
    for row, result in zip(rows[2:], compared.results, strict=True):
        assert float(row["bits_per_byte"]) == result.bits_per_byte
        assert float(row["new"]) == result.group("new")
        assert row["kind"] == "method"
    names = sorted(path.name for path in compared.folder.iterdir())
    assert names == ["compare.csv", "compare.json", "compare.png", "results"]
    assert len(list((compared.folder / "results").iterdir())) == 2 + 5


def test_what_is_finished_is_not_measured_again(
    compared: Compared, asked: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    (folder / "notes.txt").write_text("mine")
    measured = []
    measure = Bench.measure

    def counted(bench: Bench, run: Any) -> Any:
        measured.append(run.label)
        return measure(bench, run)

    monkeypatch.setattr(Bench, "measure", counted)
    again = compare(**asked(out=str(folder)))
    assert measured == []
    assert figures(again) == figures(compared)
    assert all(result.earlier for result in again.results)
    more = ["mean", "pieces", {"method": "omp", "parameters": {"k": 4}, "label": "pursuit"}]
    wider = compare(**asked(out=str(folder), methods=more))
    assert measured == ["mean"]
    assert figures(wider)["pursuit"] == figures(compared)["omp k=4"]
    assert [result.label for result in wider.results if not result.earlier] == ["mean"]
    compare(**asked(out=str(folder), methods=["mean"]), fresh=True)
    assert measured == ["mean", "mean"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_decides_the_figures_is_in_the_key(asked: Ask, text: Path, tmp_path: Path) -> None:
    """Each change gives another key, and nothing else does."""
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)

    def keys(**said: Any) -> tuple[str, ...]:
        wanted = asked(**{"base_model": str(base), "methods": ["omp", "normal"], "seed": 0, **said})
        comparison = make_comparison(wanted)
        bench = Bench.open(comparison, [Path(name) for name in wanted["eval"]["text"]], "cpu")
        kept = Kept(Store(tmp_path / "out", ("a", "b")), bench, fresh=False)
        return (*map(kept.key_of, comparison.runs), kept.key_of("own"), kept.key_of("floor"))

    first = keys()
    assert len(set(first)) == 4
    names = {"out": "elsewhere", "memory": "1GB", "methods": ["normal", "omp"]}
    assert set(keys(**names)) == set(first)
    other = tmp_path / "elsewhere" / text.name
    other.parent.mkdir()
    shutil.copy(text, other)
    measured = asked()["eval"]
    assert keys(eval={**measured, "text": [str(other)]}) == first
    other.write_text("of the same name, with something else in it")
    for changed in (
        {"eval": {**measured, "text": [str(other)]}},
        {"eval": {**measured, "window": 64}},
        {"eval": {**measured, "stride": 32}},
        {"donor": str(base)},
        {"tokenizer": {"functions": False}},
    ):
        alike = [now == before for now, before in zip(keys(**changed), first, strict=True)]
        of_pair = set(changed) & {"donor", "tokenizer"}
        assert alike == ([False, False, True, False] if of_pair else [False] * 4), changed
    assert keys(seed=1)[2:] == first[2:]
    assert not set(keys(seed=1)[:2]) & set(first)
    entry = {"method": "omp", "label": "other", "parameters": {"k": 8}}
    assert keys(methods=[entry])[0] not in first
    assert keys(methods=[{**entry, "parameters": {"rtol": 1e-4}}])[0] == first[0]
    os.utime(base / "model.safetensors", (1, 1))
    assert not set(keys()) & set(first)


def test_a_file_that_a_setting_names_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    settings = {"parameters": {"input": {"text": [str(path), "no such file"]}, "k": 3}}
    assert identity.of_files(settings) == {}
    path.write_text("one")
    one = identity.of_files(settings)
    assert list(one) == [str(path)]
    path.write_text("two")
    assert identity.of_files(settings) != one
    path.write_text("one")
    assert identity.of_files(settings) == one


def test_one_methods_failure_does_not_end_the_run(
    asked: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A k that is too large, a bug, and no memory; what failed is tried again next time."""

    def broken(method: Zero, problem: Any) -> Any:
        raise ZeroDivisionError("a bug\nof two lines")

    def greedy(method: Normal, problem: Any) -> Any:
        raise MemoryError

    methods = [
        "mean",
        {"method": "omp", "parameters": {"k": [4000, 2]}},
        "zero",
        "normal",
    ]
    said = asked(out=str(tmp_path / "out"), methods=methods, seed=0)
    with monkeypatch.context() as patched:
        patched.setattr(Zero, "fill", broken)
        patched.setattr(Normal, "fill", greedy)
        found = compare(**said)
    assert set(figures(found)) == {"mean", "omp k=2"}
    errors = {failure.label: failure.error for failure in found.failures}
    assert list(errors) == ["omp k=4000", "zero", "normal"]
    assert errors["omp k=4000"].startswith("omp with k=4000 ")
    assert errors["zero"] == "ZeroDivisionError: a bug of two lines"
    assert errors["normal"] == "MemoryError"
    bugs = [failure.label for failure in found.failures if failure.traceback]
    assert bugs == ["zero"]
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [failure["label"] for failure in written["failures"]] == list(errors)
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "failed"]
    assert {row["label"]: row["error"] for row in rows} == errors

    again = compare(**said)
    assert set(figures(again)) == {*figures(found), "zero", "normal"}
    assert [failure.label for failure in again.failures] == ["omp k=4000"]


def test_a_full_disk_is_no_methods_failure(
    asked: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Store, key: str, label: str, said: Any) -> None:
        if label == "mean":
            raise OutputError("the disk is full; free some space")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(OutputError, match="the disk is full"):
        compare(**asked(out=str(tmp_path / "out"), methods=["mean"]))


def test_a_bare_tokenizer_fails_those_that_read_weights_alone(asked: Ask, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(BUNDLED_FOLDER / "tiny-mistral" / "tokenizer.json", tmp_path / "bare")
    said = asked(donor=str(tmp_path / "bare"), out=str(tmp_path / "out"))
    found = compare(**{**said, "methods": ["ridge", "mean", "omp"]})
    assert set(figures(found)) == {"mean"}
    assert [failure.label for failure in found.failures] == ["ridge", "omp"]
    for failure in found.failures:
        assert failure.error.startswith(f"{failure.method} reads the donor's weights and ")
        assert "has none; give a model, or choose" in failure.error


def test_outliers_are_looked_for_under_each_setting(
    asked: Ask, compared: Compared, tmp_path: Path
) -> None:
    """What methods find of the tables is shared, but not where it depends on a setting."""
    sweep = {"method": "omp", "parameters": {"k": 2, "outliers": [0.3, 4.0]}}
    found = figures(compare(**asked(out=str(tmp_path / "both"), methods=[sweep])))
    assert found["omp k=2 outliers=4"] == figures(compared)["omp k=2"]
    assert found["omp k=2 outliers=0.3"] != figures(compared)["omp k=2"]


def test_the_own_vocabulary_is_the_floor(asked: Ask, tmp_path: Path) -> None:
    """A base onto itself: nothing is new, and every figure is the base's own."""
    said = asked(donor="tiny-llama", out=str(tmp_path / "out"), methods=["omp", "mean"])
    found = compare(**said)
    assert {*figures(found).values(), found.floor["bits_per_byte"]} == {found.own["bits_per_byte"]}
    for result in found.results:
        assert result.group("new") is None
        assert result.figures["frequency"] == []


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"eval": {"text": "nowhere.txt"}}, EvaluationError, "nowhere.txt cannot be read"),
        ({"train_text": "nowhere.txt"}, EvaluationError, "nowhere.txt cannot be read"),
        ({"eval": {"window": 100_000}}, EvaluationError, "window"),
        ({"out": str(BUNDLED_FOLDER / "tiny-llama")}, OutputError, "is no comparison"),
        ({"methods": []}, RecipeError, "the list is empty"),
    ],
    ids=str,
)
def test_what_is_of_no_use_is_told_before_anything_is_written(
    said: dict[str, Any], error: type[Exception], message: str, asked: Ask, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(error, match=message):
        compare(**{**asked(out=str(out)), **said})
    assert not out.exists()


def test_a_recipe_or_its_fields(asked: Ask) -> None:
    with pytest.raises(RecipeError, match="both a recipe and seed were given"):
        compare(make_comparison(asked()), seed=1)


def test_methods_that_do_not_know_a_pair_tell_it_in_one_line(asked: Ask) -> None:
    bench = Bench.open(
        make_comparison(asked(methods=["omp"])), [BUNDLED_FOLDER / "sample.txt"], "cpu"
    )
    (run,) = make_comparison(asked(methods=[{"method": "omp", "parameters": {"k": 4000}}])).runs
    with pytest.raises(MethodError, match="omp with k=4000"):
        bench.measure(run)


def test_a_killed_run_is_gone_on_with(asked: Ask, compared: Compared, tmp_path: Path) -> None:
    """A process that is killed as soon as a result lies there; what it had finished is found."""
    out = tmp_path / "out"
    said = asked(out=str(out), seed=0)
    (tmp_path / "asked.json").write_text(json.dumps(said))  # YAML, too
    command = [sys.executable, "-m", "tokswap", "compare", str(tmp_path / "asked.json"), "-q"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ) as process:
        deadline = time.monotonic() + 120
        while len(list(out.glob("results/*.json"))) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = {path.name for path in out.glob("results/*.json")}
    assert 3 <= len(kept) < 6
    assert any(name.startswith("pieces-") for name in kept)
    found = compare(**said)
    earlier = {result.label for result in found.results if result.earlier}
    assert "pieces" in earlier
    for label in ("pieces", "omp k=2", "omp k=4"):
        assert figures(found)[label] == pytest.approx(figures(compared)[label], rel=1e-6)
    assert kept <= {path.name for path in out.glob("results/*.json")}
