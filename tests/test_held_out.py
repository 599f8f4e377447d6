"""Held-out anchors of the bundled models: by the function, and within a transplant."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokswap.carry_out import Transplant
from tokswap.errors import MethodError, RecipeError
from tokswap.held_out import HeldOut, hold_out, hold_out_each
from tokswap.methods import DEFAULT
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant
from tokswap.plan import PLAN_FILE
from tokswap.recipe import make_recipe
from tokswap.report.card import CARD

PAIR = {"base_model": "tiny-llama", "donor": "tiny-mistral"}
UNTIED = {"base_model": "tiny-mistral", "donor": "tiny-llama"}
SMALL = {"parameters": {"k": 4}, "held_out": 32}
FIGURES = ["cosine", "centered_cosine", "relative_error"]


@pytest.fixture(scope="module")
def untied() -> HeldOut:
    return hold_out(**UNTIED, **SMALL)


def test_the_roles_of_an_untied_base_have_figures_each(untied: HeldOut) -> None:
    said = untied.summary()
    assert list(said) == list(untied.roles) == ["input", "output"]
    assert said["input"] != said["output"]
    for role, part in said.items():
        assert list(part) == ["anchors", "held_out", "folds", "base", "donor"]
        assert (part["held_out"], part["folds"]) == (32, 1)
        for side in ("base", "donor"):
            assert list(part[side]) == ["method", "mean_row", "other_anchor"]
            for figures in part[side].values():
                assert list(figures) == FIGURES
                for value in figures.values():
                    assert value["lower"] <= value["median"] <= value["upper"]
            centered = [figures["centered_cosine"]["mean"] for figures in part[side].values()]
            assert centered[0] > 0.2 > max(abs(value) for value in centered[1:]), (role, side)


def test_a_tied_base_has_one_table() -> None:
    assert list(hold_out(**PAIR, **SMALL).roles) == ["input"]


def test_only_roles_that_the_donor_fills_are_held_out() -> None:
    said = {"method": {"input": "pieces", "output": "omp"}, "held_out": 32}
    parameters = {"output": {"k": 4}}
    assert list(hold_out(**UNTIED, **said, parameters=parameters).roles) == ["output"]
    with pytest.raises(MethodError, match=r"\(tied\), which pieces in, omp out fills without"):
        hold_out(**PAIR, **said, parameters=parameters)


def test_tokens_are_listed_with_their_figures_the_best_first(untied: HeldOut) -> None:
    said = untied.to_dict()
    assert said == json.loads(json.dumps(said))
    assert (said["method"], said["parameters"]["k"], said["seed"]) == (DEFAULT, 4, 0)
    for role in ("input", "output"):
        tokens = said["roles"][role]["tokens"]
        assert [list(token) for token in tokens] == [["id", "token", "base", "donor"]] * 32
        assert {token["id"] for token in tokens} == set(untied.roles[role].ids)
        assert all(list(token[side]) == FIGURES for token in tokens for side in ("base", "donor"))
        own = [token["base"]["centered_cosine"] for token in tokens]
        assert own == sorted(own, reverse=True)
        mean = said["roles"][role]["base"]["method"]["centered_cosine"]["mean"]
        assert sum(own) / 32 == pytest.approx(mean, abs=1e-3)


def test_the_same_again_is_the_same(untied: HeldOut) -> None:
    assert hold_out(make_recipe(UNTIED | SMALL)).to_dict() == untied.to_dict()


def test_several_settings_hold_out_the_same_anchors() -> None:
    recipes = [
        make_recipe(PAIR | {"held_out": 32, "parameters": parameters})
        for parameters in ({"k": 2}, {"k": 64}, {"k": 2, "outliers": None})
    ]
    few, many, all_in = hold_out_each(recipes)
    assert few.roles["input"].ids == many.roles["input"].ids
    assert all_in.roles["input"].anchors > few.roles["input"].anchors == 2593
    in_donor, in_base = (
        [
            found.summary()["input"][side]["method"]["centered_cosine"]["mean"]
            for found in (few, many)
        ]
        for side in ("donor", "base")
    )
    assert in_donor[0] < in_donor[1]
    assert in_base[0] > in_base[1]  # what describes the donor best carries over least


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"method": "pieces"}, MethodError, "pieces reads no donor's weights, .*: omp"),
        ({"held_out": 0}, RecipeError, "0 anchors tell nothing; give a number, or all"),
        ({"held_out": False}, RecipeError, "0 anchors tell nothing"),
        ({"held_out": -1}, RecipeError, "held_out: give a number of anchors, all, or false"),
        ({"held_out": "some"}, RecipeError, "held_out: .*given 'some'"),
        ({"held_out": 2.5}, RecipeError, r"held_out: .*given 2\.5"),
    ],
)
def test_what_tells_nothing_is_refused(
    said: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        hold_out(**PAIR | said)


def test_a_donor_without_weights_is_refused(tmp_path: Path) -> None:
    shutil.copy(BUNDLED_FOLDER / "tiny-mistral" / "tokenizer.json", tmp_path)
    with pytest.raises(MethodError, match=r"omp-pieces reads the donor's weights and .* has none"):
        hold_out(base_model="tiny-llama", donor=str(tmp_path))


def test_a_recipe_or_its_fields() -> None:
    with pytest.raises(RecipeError, match="both a recipe and seed were given"):
        hold_out(make_recipe(PAIR), seed=1)


def test_a_recipe_says_how_many() -> None:
    for said, count in ((False, 0), (True, 256), (0, 0), (7, 7), ("all", "all")):
        assert make_recipe(PAIR | {"held_out": said}).held_out == count
    assert make_recipe(PAIR).held_out == 256
    recipe = make_recipe(PAIR, ["held_out=all"])
    assert make_recipe(recipe.record()).record() == recipe.record()


def swap(out: Path, **said: Any) -> Transplant:
    return transplant(**{"eval": False, "verify": False, "out": str(out)} | PAIR | said)


def test_a_transplant_tells_what_carries_over(tmp_path: Path) -> None:
    swap(tmp_path / "out", **SMALL)
    record = json.loads((tmp_path / "out" / "tokswap.json").read_text())
    assert record["held_out"] == hold_out(**PAIR, **SMALL).summary()
    assert record["recipe"]["held_out"] == 32
    card = (tmp_path / "out" / CARD).read_text()
    assert "Held-out anchors (32): cosine 0.7" in card


def test_the_rows_do_not_depend_on_it(tmp_path: Path) -> None:
    plans = []
    for name, count in (("with", 32), ("without", False)):
        said = {**PAIR, "parameters": {"k": 2}, "held_out": count, "out": str(tmp_path / name)}
        result = transplant(plan_only=True, **said)
        assert (result.record["held_out"] is None) == (not count)
        plans.append((tmp_path / name / PLAN_FILE).read_bytes())
    assert plans[0] == plans[1]


def test_where_nothing_can_be_held_out_the_transplant_goes_on(tmp_path: Path) -> None:
    assert swap(tmp_path / "pieces", method="pieces").record["held_out"] is None
    own = swap(tmp_path / "own", donor="tiny-llama")  # nothing is missing
    assert own.record["held_out"] is None


def test_anchors_that_suffice_only_together_are_all_used(tmp_path: Path) -> None:
    said = {"parameters": {"k": 80, "outliers": 0.3}, "held_out": 32}  # 82 anchors, 74 of them left
    with pytest.raises(MethodError, match="omp with k=80 needs"):
        hold_out(**PAIR, **said)
    result = swap(tmp_path / "out", **said)
    (told,) = [line for line in result.warnings if line.startswith("anchors were not held out: ")]
    assert "omp with k=80 needs" in told
    assert list(result.record["held_out"]) == ["not_checked"]
    assert told in (tmp_path / "out" / CARD).read_text()


def test_a_transplant_says_so_where_nothing_carries_over(tmp_path: Path) -> None:
    """The donor's rows are shuffled: each token has another one's."""
    donor = tmp_path / "donor"
    shutil.copytree(BUNDLED_FOLDER / "tiny-mistral", donor)
    tensors = load_file(donor / "model.safetensors")
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][order]
    save_file(tensors, donor / "model.safetensors", metadata={"format": "pt"})
    result = swap(tmp_path / "out", donor=str(donor), parameters={"k": 4, "outliers": None})
    (told,) = [line for line in result.warnings if "do not carry over" in line]
    assert told.startswith("the input rows do not carry over from the donor")
    assert told in result.record["notes"]
    assert not [line for line in swap(tmp_path / "b", **SMALL).warnings if "carry over" in line]
