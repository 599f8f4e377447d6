"""The segmentation floor beside what was transplanted, and where there is none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.test_swapped import LLAMA, MISTRAL, recipe_of
from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.evaluation import loaded
from tokswap.evaluation.floor import made_of
from tokswap.evaluation.measure import SAMPLE, Evaluation, evaluate
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import file_text
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.pipeline import transplant

SEEN: dict[str, int] = {"window": 64, "stride": 32}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "short.txt"
    numbers = "".join(f"{n * 7919 % 900000 + 100000} apples, " for n in range(60))
    content = SAMPLE.read_text(encoding="utf-8")[:900] + numbers
    path.write_text(content, encoding="utf-8")
    return path


def swap(out: Path, donor: str, text: Path, **more: Any) -> Transplant:
    said = {"base_model": LLAMA, "donor": donor, "method": "mean", "out": str(out)}
    seen = {"text": [str(text)], **SEEN}
    return transplant(**{**said, "eval": seen, "verify": False, "held_out": False, **more})


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Transplant:
    return swap(tmp_path_factory.mktemp("made") / "out", MISTRAL, text)


@pytest.fixture(scope="module")
def others(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One more with the same vocabulary, and one with the base's own."""
    folder = tmp_path_factory.mktemp("others")
    same = swap(folder / "same", MISTRAL, text, method="zero", eval=False)
    return str(same.folder), str(swap(folder / "own", LLAMA, text, eval=False).folder)


def measured(*models: object, text: Path, against: str = LLAMA) -> Evaluation:
    names = [str(model) for model in models]
    return evaluate(*names, texts=[text], against=against, device="cpu", **SEEN)


def test_a_transplant_stands_beside_its_floor(made: Transplant, text: Path) -> None:
    assert made.evaluation is not None
    base, result = made.evaluation.results
    _, floor = made.evaluation.floors
    assert floor is not None
    assert made.evaluation.floor is floor.score
    model = SwappedModel.load(open_pair(recipe_of(LLAMA, MISTRAL)))
    expected = model.floor([file_text(text)], **SEEN).score
    assert floor.score == expected
    assert base.bits_per_byte == model.own([file_text(text)], **SEEN).score.bits_per_byte
    assert (floor.score.tokens, floor.score.bytes) == (result.tokens, result.bytes)

    figures, cut = made.record["figures"], made.record["cut"]
    assert list(figures) == ["base", "floor", "result"]
    bits = {name: score["bits_per_byte"] for name, score in figures.items()}
    assert bits["floor"] == pytest.approx(expected.bits_per_byte, rel=1e-5)
    assert cut["bits_per_byte"] == pytest.approx(bits["floor"] - bits["base"], abs=2e-5)
    assert cut["rows"] == pytest.approx(bits["result"] - bits["floor"], abs=2e-5)
    assert sum(part["bits_per_byte"] for part in cut["kinds"].values()) == pytest.approx(
        cut["bits_per_byte"], abs=1e-4
    )
    assert cut["causes"][0] == "digits"
    assert json.loads((made.folder / "tokswap.json").read_text()) == made.record
    card = (made.folder / "README.md").read_text()
    assert f"| segmentation floor | {bits['floor']:.4f} |" in card
    assert f"bits/byte the changed cut costs {cut['bits_per_byte']:+.4f} (digits +" in card

    (first, said) = made.to_dict()["results"]
    assert "floor" not in first
    assert said["floor"]["bits_per_byte"] == expected.bits_per_byte
    assert said["rows"] + said["cut"]["bits_per_byte"] == pytest.approx(
        result.bits_per_byte - base.bits_per_byte
    )


def test_models_of_one_vocabulary_share_a_floor_and_the_base_is_loaded_once(
    made: Transplant, others: tuple[str, str], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, names = loaded.load_for_scoring, []

    def counted(folder: Path, **settings: Any) -> Any:
        names.append(folder.name)
        return load(folder, **settings)

    monkeypatch.setattr(loaded, "load_for_scoring", counted)
    found = measured(made.folder, *others, MISTRAL, text=text)
    assert names == [LLAMA, "out", "same", "own", MISTRAL]
    assert made.evaluation is not None
    assert found.results[:2] == made.evaluation.results
    base, first, second, own, other = found.floors
    assert (base, other) == (None, None)
    assert first == made.evaluation.floors[1]
    assert first is not None
    assert second is not None
    assert first.score is second.score
    # The base's own vocabulary is cut as it was, and nothing is lost.
    assert own is not None
    assert own.score.nats == found.results[0].nats
    assert (own.cut.bits_per_byte, own.cut.causes) == (0, ())
    assert [("floor" in said) for said in found.to_dict()["results"]] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_a_fine_tune_with_the_same_vocabulary_has_a_floor_of_its_own(
    made: Transplant, text: Path, tmp_path: Path
) -> None:
    """What counts is the tokens, not the name."""
    shutil.copytree(BUNDLED_FOLDER / LLAMA, tmp_path / "renamed")
    found = measured(made.folder, text=text, against=str(tmp_path / "renamed"))
    assert made.evaluation is not None
    assert found.floor is not None
    assert found.floor.nats == made.evaluation.floor.nats  # type: ignore[union-attr]


def test_without_a_plan_for_the_base_there_is_no_floor(
    made: Transplant, text: Path, tmp_path: Path
) -> None:
    shutil.copytree(made.folder, tmp_path / "bare")
    (tmp_path / "bare" / "tokswap.plan").unlink()
    shutil.copytree(made.folder, tmp_path / "other")
    shutil.copy(BUNDLED_FOLDER / LLAMA / "tokenizer.json", tmp_path / "other")
    base = Checkpoint.open(LLAMA)
    for name in ("bare", "other"):
        assert made_of(base, Checkpoint.open(str(tmp_path / name))) is None
    assert made_of(Checkpoint.open(MISTRAL), Checkpoint.open(str(made.folder))) is None
    found = measured(tmp_path / "bare", text=text)
    assert (found.floor, found.floors) == (None, (None, None))
    assert measured(made.folder, text=text, against=MISTRAL).floor is None
    alone = evaluate(str(made.folder), texts=[text], device="cpu", **SEEN)
    assert (alone.floor, len(alone.to_dict()["results"])) == (None, 1)


@pytest.mark.parametrize(("changed", "trained"), [(3, True), (0, False)])
def test_a_body_with_an_addition_is_told(
    made: Transplant, tmp_path: Path, changed: int, trained: bool
) -> None:
    shutil.copytree(made.folder, tmp_path / "like")
    record = {**made.record, "like": {"body": {"changed": changed, "compared": 9}}}
    (tmp_path / "like" / "tokswap.json").write_text(json.dumps(record))
    found = made_of(Checkpoint.open(LLAMA), Checkpoint.open(str(tmp_path / "like")))
    assert found is not None
    assert found.trained is trained
