"""Two vocabularies compared and single tokens explained: bundled models and bare tokenizers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tokswap import progress
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import (
    CheckpointError,
    EvaluationError,
    MethodError,
    NameUnknownError,
    RecipeError,
)
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import file_text
from tokswap.inspection import inspect
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.pipeline import transplant
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import make_recipe
from tokswap.vocabulary.align import align

BASE, DONOR = "tiny-llama", "tiny-mistral"
RETURN, START, SEVERAL = " return", "<s>", "return to sender"


@pytest.fixture(scope="module")
def missing() -> tuple[int, str]:
    """A token of the donor that the base cuts into two pieces or more, and the text of it."""
    base, donor = (Checkpoint.open(name).vocabulary for name in (BASE, DONOR))
    alignment = align(base, donor, base_rows=len(base), rows=len(donor))
    for number, pieces in alignment.pieces.items():
        text = (donor.spelling[number] or b"").decode(errors="ignore")
        if len(pieces) > 1 and text.strip().isalpha() and donor.find(text) == number:
            return number, text
    raise AssertionError("no missing token is text")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a plan alone, by pieces."""
    out = tmp_path_factory.mktemp("planned") / "out"
    transplant(base_model=BASE, donor=DONOR, method="pieces", out=str(out), plan_only=True)
    return out


@pytest.fixture
def bare(tmp_path: Path):
    """Make a bare tokenizer of a bundled model: nothing but its tokenizer's files."""

    def make(name: str) -> str:
        folder = tmp_path / f"bare-{name}"
        folder.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BUNDLED_FOLDER / name / file, folder)
        return str(folder)

    return make


def test_json_form_of_the_bundled_pair() -> None:
    said = json.loads(json.dumps(inspect(BASE, DONOR).to_dict()))
    base, donor = (Checkpoint.open(name) for name in (BASE, DONOR))
    assert said["base_size"] == base.config["vocab_size"]
    assert said["donor_size"] == donor.config["vocab_size"]
    parts = ("shared", "missing", "special_matched", "special_unmatched", "overridden", "unused")
    assert sum(said[part] for part in parts) == said["donor_size"]
    assert said["shared"] > 1000
    assert said["missing"] == sum(said["missing_kinds"].values()) > 100
    assert {row["token"]: row["base_token"] for row in said["special"]} == {
        "<unk>": None,
        "<s>": "<|begin_of_text|>",
        "</s>": "<|end_of_text|>",
    }
    assert {row["token"]: row["by"] for row in said["special"]} == {
        "<unk>": "no counterpart",
        "<s>": "role bos",
        "</s>": "role eos",
    }
    assert said["digits"] == {"base": "groups of 3 from the left", "donor": "single digits"}
    assert all(0 < value < 1 for value in said["tokens_per_byte"].values())
    assert (said["base"], said["donor"], said["text"]) == (BASE, DONOR, "sample.txt")
    assert said["token"] is None


def test_tokens_are_counted_on_the_text_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("return 123456 " * 50)
    found = inspect(BASE, DONOR, text=path)
    assert found.text == "numbers.txt"
    for name, side in ((BASE, "base"), (DONOR, "donor")):
        backend = Checkpoint.open(name).vocabulary.backend
        tokens = len(backend.encode(path.read_text(), add_special_tokens=False).ids)
        assert found.tokens_per_byte[side] == tokens / path.stat().st_size


def test_the_floor_is_told_of_a_text_that_is_given(tmp_path: Path, bare) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("return 123456 " * 50)
    donor = bare(DONOR)  # of which no weights are needed
    found = inspect(BASE, donor, text=path)
    assert found.own is not None
    assert found.floor is not None
    window = {"window": found.own.window, "stride": found.own.stride}
    recipe = make_recipe({"base_model": BASE, "donor": DONOR, "method": "mean"})
    model, texts = SwappedModel.load(open_pair(recipe)), [file_text(path)]
    assert found.own == model.own(texts, **window).score
    assert found.floor.score == model.floor(texts, **window).score
    said = found.to_dict()
    assert said["cut"]["bits_per_byte"] == pytest.approx(
        said["floor"]["bits_per_byte"] - said["own"]["bits_per_byte"]
    )


def test_without_a_model_or_a_text_there_is_no_floor(tmp_path: Path, bare) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("return 123456 " * 5)
    for found in (
        inspect(BASE, DONOR),
        inspect(bare(BASE), DONOR, text=path),
        inspect(BASE, DONOR, text=path, measured=False),
        inspect(BASE, DONOR, text=path, token=START),
    ):
        assert (found.own, found.floor, found.to_dict()["cut"]) == (None, None, None)


def test_of_a_base_that_cannot_be_measured_the_vocabularies_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(BUNDLED_FOLDER / BASE, tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    path = tmp_path / "numbers.txt"
    path.write_text("return 123456 " * 5)
    progress.show()
    try:
        found = inspect(str(tmp_path / "base"), DONOR, text=path)
    finally:
        progress.show(False)
    assert found.floor is None
    assert found.counts == inspect(BASE, DONOR).counts
    assert "cannot be measured: it is a LlamaForSequenceClassification" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"caf\xe9", "not UTF-8")])
def test_a_text_that_cannot_be_read_is_refused(content, message, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        inspect(BASE, DONOR, text=tmp_path / "text.txt")


def test_bare_tokenizers_will_do(bare) -> None:
    found, models = inspect(bare(BASE), bare(DONOR)), inspect(BASE, DONOR)
    assert found.counts == models.counts
    assert found.missing_kinds == models.missing_kinds
    assert found.tokens_per_byte == models.tokens_per_byte


def test_a_vocabulary_against_itself_shares_everything() -> None:
    found = inspect(DONOR, DONOR)
    assert found.counts["missing"] == found.counts["special_unmatched"] == 0
    assert found.counts["shared"] + found.counts["special"] == found.counts["donor_size"]
    assert found.missing_kinds == {}


@pytest.mark.parametrize(
    ("token", "kind", "row"),
    [
        (" return", "shared", "' return'"),
        ("▁return", "shared", "' return'"),  # as the tokenizer writes it
        ("<s>", "special", "<|begin_of_text|>"),
        ("<unk>", "unmatched", "(mean of 6141 rows)"),
    ],
)
def test_a_token_that_no_method_fills(token: str, kind: str, row: str, bare) -> None:
    for base, donor in ((BASE, DONOR), (bare(BASE), bare(DONOR))):
        source = inspect(base, donor, token=token).source
        assert source is not None
        assert (source.kind, source.pieces) == (kind, ())
        assert source.rows == {"input": ((row, 1.0),)}


def test_a_missing_token_is_solved_by_the_method(missing: tuple[int, str]) -> None:
    number, text = missing
    first = inspect(
        BASE, DONOR, token=text, method="pieces", parameters={"strategy": "first"}
    ).source
    assert first is not None
    assert (first.id, first.token, first.kind) == (number, repr(text), "missing")
    assert len(first.pieces) > 1
    assert "".join(piece.strip("'") for piece in first.pieces) == text
    assert first.rows == {"input": ((first.pieces[0], 1.0),)}  # tied: one role
    said = first.to_dict()
    assert said["rows"]["input"] == [{"token": first.pieces[0], "weight": 1.0}]
    assert said["pieces"] == list(first.pieces)


def test_a_missing_token_is_a_combination_of_few_anchors(missing: tuple[int, str]) -> None:
    source = inspect(BASE, DONOR, token=missing[1], method="omp", parameters={"k": 3}).source
    assert source is not None
    weights = [abs(weight) for _, weight in source.rows["input"]]
    assert 1 <= len(weights) <= 3 + 1  # and the mean of the anchors
    assert weights == sorted(weights, reverse=True)


def test_an_untied_base_has_a_row_for_each_role() -> None:
    base, donor = (Checkpoint.open(name).vocabulary for name in (DONOR, BASE))
    alignment = align(base, donor, base_rows=len(base), rows=len(donor))
    number = next(n for n in alignment.pieces if donor.show(n).strip("'").isalpha())
    text = donor.show(number).strip("'")
    parameters = {"input": {"strategy": "first"}, "output": {"strategy": "last"}}
    source = inspect(DONOR, BASE, token=text, method="pieces", parameters=parameters).source
    assert source is not None
    rows = {role: entries[0][0] for role, entries in source.rows.items()}
    assert rows == {"input": source.pieces[0], "output": source.pieces[-1]}


def test_a_row_that_is_no_combination_has_no_entries(missing: tuple[int, str]) -> None:
    source = inspect(BASE, DONOR, token=missing[1], method="normal").source
    assert source is not None
    assert source.rows == {"input": ()}


def test_a_token_is_explained_by_a_plan(missing: tuple[int, str], planned: Path) -> None:
    for plan in (planned, str(planned / PLAN_FILE)):
        source = inspect(plan=plan, token=missing[1]).source
        assert source is not None
        assert (source.id, source.kind) == (missing[0], "missing")
        assert {row[0] for row in source.rows["input"]} == set(source.pieces)
    special = inspect(plan=planned, token=START).source
    assert special is not None
    assert special.rows == {"input": (("<|begin_of_text|>", 1.0),)}


def test_the_tokenizer_beside_a_plan_is_taken_for_the_donor(planned: Path, tmp_path: Path) -> None:
    for file in (DONOR + "/tokenizer.json", DONOR + "/tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / file, tmp_path)
    shutil.copy(planned / PLAN_FILE, tmp_path)
    assert inspect(plan=tmp_path, token=RETURN).donor == str(tmp_path)
    assert inspect(plan=planned, token=RETURN).donor == DONOR


def test_a_plan_of_another_pair_is_refused(planned: Path, bare) -> None:
    message = f"the plan is for {BASE} and {DONOR}, not for {DONOR} and {BASE}"
    with pytest.raises(CheckpointError, match=message):
        inspect(DONOR, BASE, plan=planned, token=RETURN)
    with pytest.raises(CheckpointError, match=f"not for {DONOR} and {DONOR}; give the plan of"):
        inspect(base_model=DONOR, plan=planned, token=RETURN)
    other = Path(bare(BASE))  # as many rows, one other token
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    assert "<|pad|>" in text
    (other / "tokenizer.json").write_text(text.replace("<|pad|>", "<|gap|>"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="give the plan of this pair"):
        inspect(base_model=str(other), plan=planned, token=RETURN)


def test_a_plan_that_names_no_models_needs_them_named(planned: Path, tmp_path: Path) -> None:
    path = tmp_path / "unnamed.plan"
    replace(Plan.load(planned / PLAN_FILE), about={}).save(path)
    with pytest.raises(NameUnknownError, match="no base and no donor was given; name both"):
        inspect(plan=path, token=RETURN)
    source = inspect(BASE, DONOR, plan=path, token=RETURN).source
    assert source is not None
    assert source.rows["input"] == (("' return'", 1.0),)
    with pytest.raises(CheckpointError, match="the plan is for an unnamed base and an unnamed"):
        inspect(DONOR, BASE, plan=path, token=RETURN)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokswap\.plan is not a plan"):
        inspect(plan=tmp_path, token=RETURN)


def test_a_text_of_several_tokens_shows_its_cut() -> None:
    with pytest.raises(NameUnknownError) as caught:
        inspect(BASE, DONOR, token=SEVERAL)
    message = str(caught.value)
    assert "'return to sender' is not one token of tiny-mistral, which cuts it as" in message
    assert "'▁return' '▁to'" in message
    assert message.endswith("name one of its tokens (a leading space counts)")


@pytest.mark.parametrize(
    ("names", "lacking"), [((BASE, None), "no donor"), ((None, BASE), "no base")]
)
def test_both_names_are_needed(names, lacking: str) -> None:
    with pytest.raises(NameUnknownError, match=f"{lacking} was given; name both"):
        inspect(*names)


def test_a_method_that_needs_weights_says_so_of_a_bare_donor(missing, bare) -> None:
    donor = bare(DONOR)
    with pytest.raises(MethodError, match=r"omp-pieces reads the .* weights .* has none.*pieces"):
        inspect(BASE, donor, token=missing[1])
    source = inspect(BASE, donor, token=missing[1], method="mean").source
    assert source is not None
    assert source.rows["input"] == (("(mean of 6141 rows)", 1.0),)


def test_settings_are_checked() -> None:
    with pytest.raises(RecipeError, match=r"parameters\.k: .*greater than 0, given 0"):
        inspect(BASE, DONOR, parameters={"k": 0})
    with pytest.raises(
        NameUnknownError, match=r"'tiny-lama' is no alias.*did you mean 'tiny-llama'"
    ):
        inspect("tiny-lama", DONOR)
