"""Which methods a recipe asks for: by role and by kind of token."""

from typing import Any

import pytest

from tokswap.errors import RecipeError
from tokswap.methods import DEFAULT, METHODS
from tokswap.methods.by_kind import ByKind
from tokswap.recipe import make_recipe

PAIR = {"base_model": "tiny-llama", "donor": "tiny-mistral"}


def faults(**said: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe({**PAIR, **said})
    return str(caught.value)


def test_each_role_can_have_a_method_of_its_own() -> None:
    recipe = make_recipe(
        {
            **PAIR,
            "method": {"input": "pieces", "output": "omp"},
            "parameters": {"input": {"strategy": "last"}, "output": {"k": 3}},
        }
    )
    assert recipe.methods == {
        "input": METHODS["pieces"](strategy="last"),
        "output": METHODS["omp"](k=3),
    }
    assert recipe.label == "pieces in, omp out"
    assert recipe.needs_donor


def test_one_name_for_both_roles_is_one_method() -> None:
    same = make_recipe({**PAIR, "method": {"input": DEFAULT, "output": DEFAULT}})
    assert same == make_recipe(PAIR)


def test_the_methods_of_some_kinds_replace_the_rest() -> None:
    recipe = make_recipe(
        {
            **PAIR,
            "method": "mean",
            "per_kind": {
                "digits": "pieces",
                "bytes": {"method": "omp", "parameters": {"k": 2, "output": {"k": 5}}},
            },
        }
    )
    mean, pieces = METHODS["mean"](), METHODS["pieces"]()
    for role, k in (("input", 2), ("output", 5)):
        kinds = {"digits": pieces, "bytes": METHODS["omp"](k=k)}
        assert recipe.methods[role] == ByKind(rest=mean, kinds=kinds)
    assert recipe.label == "mean; digits by pieces; bytes by omp"
    assert recipe.needs_donor
    assert list(recipe.methods["input"].kinds) == ["digits", "bytes"]  # the first that fits counts


@pytest.mark.parametrize(
    "said",
    [
        {"method": {"input": "pieces", "output": "omp"}},
        {
            "method": {"input": "pieces", "output": "omp"},
            "parameters": {"input": {"strategy": "last"}, "output": {"k": 3}},
        },
        {"per_kind": {"digits": "pieces", "bytes": {"method": {"input": "mean", "output": "omp"}}}},
        {"method": "mix", "parameters": {"of": ["omp", {"method": "pieces", "weight": 2}]}},
        {"method": "mix", "parameters": {"output": {"of": [{"method": "omp"}]}}},
    ],
    ids=str,
)
def test_the_record_is_a_recipe_again(said: dict[str, Any]) -> None:
    recipe = make_recipe({**PAIR, **said})
    record = recipe.record()
    again = make_recipe(record)
    assert again.record() == record
    assert again.methods == recipe.methods
    assert again.label == recipe.label


def test_settings_can_be_set_one_by_one() -> None:
    recipe = make_recipe(PAIR, ["per_kind.digits=pieces", "method={input: mean, output: zero}"])
    assert recipe.label == "mean in, zero out; digits by pieces"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"method": {"input": "omp"}}, "give the name of a method, or one for each role"),
        ({"method": {"input": "omp", "output": "opm"}}, "'opm' is unknown; did you mean 'omp'"),
        ({"method": {"input": "omp", "output": 3}}, "method"),
        (
            {"method": {"input": "omp", "output": "pieces"}, "parameters": {"k": 3}},
            r"parameters (pieces).k: unknown key",
        ),
        ({"per_kind": {"digit": "pieces"}}, "'digit' is no kind of token; did you mean 'digits'"),
        ({"per_kind": {"digits": "piece"}}, "per_kind.digits.method: 'piece' is unknown; did you"),
        (
            {"per_kind": {"digits": {"method": "omp", "parameters": {"input": {"kk": 1}}}}},
            "per_kind.digits.parameters.input.kk: unknown key; did you mean 'k'",
        ),
        ({"per_kind": {"digits": ["focus"]}}, "per_kind.digits: give a method, or `{method:"),
        ({"methods": ["omp"]}, "(`methods` is a key of `tokswap compare`)"),
        ({"parameters": {"kk": 1}}, "parameters.kk: unknown key; did you mean 'k'"),
        ({"method": "mix", "parameters": {"of": []}}, "parameters.of: give at least one method"),
    ],
)
def test_what_cannot_be_filled_so_is_refused(said: dict[str, Any], message: str) -> None:
    assert message in faults(**said)


def test_a_fault_of_one_kind_is_told_once() -> None:
    said = {"digits": {"method": "pieces", "parameters": {"strategy": "middle"}}}
    assert faults(per_kind=said).count("strategy:") == 1
