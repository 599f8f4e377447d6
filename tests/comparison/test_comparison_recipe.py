"""What is asked for: sweeps, seeds, labels, a transplant's recipe, and every fault in its place."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import model_validator

from tests.comparison.conftest import PAIR
from tokswap.comparison.flags import with_flags, with_sweep
from tokswap.comparison.recipe import (
    Comparison,
    Entry,
    load_comparison,
    make_comparison,
)
from tokswap.comparison.runs import by_default
from tokswap.comparison.sweeps import variants, with_texts
from tokswap.errors import RecipeError
from tokswap.methods import METHODS, Method
from tokswap.recipe import Recipe
from tokswap.report.keys import comparison_keys

FOLDER = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(FOLDER.rglob("compare.yaml"))
TRANSPLANTS = [
    p for p in FOLDER.rglob("*.yaml") if p not in SHIPPED and p.parent.stem != "hypernet"
]


def labels(said: dict[str, Any]) -> list[str]:
    return [run.label for run in make_comparison({**PAIR, **said}).runs]


def faults(said: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        make_comparison(said)
    head, _, rest = str(caught.value).partition(":")
    assert head == "the comparison is not valid"
    return [line.strip() for line in rest.splitlines() if line.strip()]


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_shipped_comparison_is_valid(path: Path) -> None:
    asked = load_comparison(path)
    assert asked.out == f"out/{path.parent.name}-{path.stem}"
    assert f"#     tokswap compare recipes/{path.parent.name}/{path.name}" in path.read_text()


def test_there_is_a_shipped_comparison_with_a_sweep() -> None:
    (path,) = SHIPPED
    runs = load_comparison(path).runs
    assert [run.label for run in runs] == [
        *(f"omp k={k}" for k in (4, 8, 16, 32)),
        *("ridge", "pieces", "mean"),
        *["samples"] * 3,
    ]
    assert [run.recipe.seed for run in runs] == [0] * 7 + [0, 1, 2]


@pytest.mark.parametrize("path", TRANSPLANTS, ids=lambda path: path.stem)
def test_a_transplants_recipe_will_do(path: Path) -> None:
    """Its method is what is tried, and its output is left alone."""
    asked = load_comparison(path)
    assert asked.out == f"out/{path.parent.name}-{path.stem}-compare"
    (run,) = asked.runs
    assert run.recipe.tokenizer == asked.tokenizer


def test_the_readme_has_every_key() -> None:
    said = comparison_keys()
    assert f"\n{said}\n" in (FOLDER / "README.md").read_text(encoding="utf-8"), (
        "recipes/README.md is stale; put in what `python -m tokswap.report.keys` prints"
    )
    keys = [row.split("`")[1] for row in said.splitlines() if row.startswith("| `")]
    assert set(Comparison.model_fields) - set(Recipe.model_fields) <= set(keys)
    assert {f"methods.N.{name}" for name in Entry.model_fields} <= set(keys)


def test_without_a_word_all_methods_that_need_no_settings_are_compared() -> None:
    assert [run.method for run in make_comparison(PAIR).runs] == by_default()
    # Two are the same as pieces, and one needs a network.
    assert set(METHODS) - set(by_default()) == {"retok", "fvt", "hypernet"}
    for name in by_default():
        METHODS[name]()


def test_two_lists_stand_for_all_pairs() -> None:
    entry = {"method": "omp", "parameters": {"k": [8, 16], "center": [True, False], "ridge": 0.5}}
    runs = make_comparison({**PAIR, "methods": [entry]}).runs
    assert [run.label for run in runs] == [
        f"omp k={k} center={center} ridge=0.5" for k in (8, 16) for center in ("true", "false")
    ]
    tried = [run.recipe.methods["input"].model_dump() for run in runs]
    assert [(said["k"], said["center"]) for said in tried] == [
        (8, True),
        (8, False),
        (16, True),
        (16, False),
    ]


def test_the_roles_are_swept_apart() -> None:
    roles = {"input": {"strategy": ["first", "last"]}, "output": {"strategy": "mean"}}
    entry = {"method": "pieces", "parameters": {**roles, "decay": [0.25, 0.5]}}
    runs = make_comparison({**PAIR, "methods": [entry]}).runs
    assert [run.label for run in runs] == [
        "pieces strategy=first/mean decay=0.25",
        "pieces strategy=first/mean decay=0.5",
        "pieces strategy=last/mean decay=0.25",
        "pieces strategy=last/mean decay=0.5",
    ]
    one = runs[2].recipe.methods
    assert one["input"].model_dump() == {"strategy": "last", "decay": 0.25}
    assert one["output"].model_dump() == {"strategy": "mean", "decay": 0.25}
    (only,) = variants("pieces", {"output": {"strategy": "first"}})
    assert only.label == "output.strategy=first"


class Taught(Method):
    """A method with settings that are lists."""

    text: list[str] | None = None
    layers: tuple[int, ...] = (1,)
    k: int | None = 3
    encoder: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Taught":
        if self.text and self.encoder:
            raise ValueError("an encoder needs no text")
        return self

    def fill(self, problem: Any) -> Any:
        raise NotImplementedError("never asked")


def test_a_setting_that_is_a_list_is_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "taught", Taught)  # type: ignore[arg-type]
    (only,) = variants("taught", {"text": ["a", "b"], "layers": [1, 2]})
    assert only.parameters == {"text": ["a", "b"], "layers": [1, 2]}
    found = variants("taught", {"layers": [[1], [2, 3]], "k": [1, 2]})
    assert [said.parameters["layers"] for said in found] == [[1], [1], [2, 3], [2, 3]]
    assert [said.label for said in found] == [
        "layers=#1 k=1",
        "layers=#1 k=2",
        "layers=#2 k=1",
        "layers=#2 k=2",
    ]


def test_training_texts_go_to_every_method_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "taught", Taught)  # type: ignore[arg-type]
    files = ["a.txt", "b.txt"]
    assert with_texts({"method": "taught"}, files)["parameters"] == {"text": files}
    own = {"method": "taught", "parameters": {"text": ["own.txt"]}}
    assert with_texts(own, files) == own
    for role in ("input", "output"):
        of_role = {"method": "taught", "parameters": {role: {"text": ["own.txt"]}}}
        assert with_texts(of_role, files) == of_role
    assert with_texts({"method": "omp"}, files) == {"method": "omp"}
    assert with_texts({"method": "taught"}, []) == {"method": "taught"}
    roles = {"method": {"input": "omp", "output": "taught"}, "parameters": {"k": 3}}
    assert with_texts(roles, files)["parameters"] == {"k": 3, "output": {"text": files}}
    mixed = {"method": "mix", "parameters": {"of": ["omp", {"method": "taught", "weight": 2}]}}
    assert with_texts(mixed, files)["parameters"]["of"] == [
        "omp",
        {"method": "taught", "weight": 2, "parameters": {"text": files}},
    ]
    kinds = {"method": "omp", "per_kind": {"digits": "taught", "code": "mean"}}
    assert with_texts(kinds, files)["per_kind"] == {
        "digits": {"method": "taught", "parameters": {"text": files}},
        "code": "mean",
    }
    encoded = {"method": "taught", "parameters": {"encoder": "some"}}
    assert with_texts(encoded, files) == encoded
    assert mixed["parameters"] == {"of": ["omp", {"method": "taught", "weight": 2}]}


SWEPT = {"k": [1, 2], "center": True}


def test_labels_tell_one_from_another() -> None:
    entries = ["omp", "omp", {"method": "pieces", "label": "omp"}]
    assert labels({"methods": entries}) == ["omp", "omp #2", "omp #3"]
    assert labels({"methods": [{"method": "omp", "label": "A", "parameters": SWEPT}]}) == [
        "A k=1",
        "A k=2",
    ]


def test_only_methods_that_draw_are_run_with_every_seed() -> None:
    runs = make_comparison({**PAIR, "methods": ["omp", "normal", "landmarks"], "seed": [3, 5]}).runs
    assert [(run.method, run.recipe.seed, run.draws) for run in runs] == [
        ("omp", 3, False),
        ("normal", 3, True),
        ("normal", 5, True),
        ("landmarks", 3, True),
        ("landmarks", 5, True),
    ]
    one = make_comparison({**PAIR, "methods": ["normal"], "seed": 7})
    assert one.seed == [7]


def test_what_was_asked_is_a_comparison_again() -> None:
    said = {
        **PAIR,
        "methods": ["pieces", {"method": "omp", "parameters": {"k": [2, 4]}}],
        "seed": [1, 2],
        "eval": {"text": "a.txt", "window": 64},
        "tokenizer": {"functions": False, "size": "tight"},
        "out": "somewhere",
    }
    asked = make_comparison(said)
    record = asked.record()
    assert "out" not in record
    again = make_comparison(record)
    assert again.record() == record
    assert again.runs == asked.runs
    everything = make_comparison(PAIR)
    assert make_comparison(everything.record()).runs == everything.runs


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"methods": []}, "methods: the list is empty; name one method or more"),
        ({"methods": ["opm"]}, "methods.0.method: 'opm' is unknown; did you mean 'omp'"),
        ({"methods": 3}, "methods: Input should be a valid list, given 3"),
        ({"methods": [{"metod": "omp"}]}, "methods.0.method: is missing"),
        ({"methd": ["omp"]}, "methd: unknown key; did you mean 'methods'?"),
        ({"methods": [{"method": "omp", "parameters": {"k": []}}]}, "parameters.k: the list is em"),
        ({"methods": [{"method": "omp", "parameters": {"q": [1, 2]}}]}, "parameters.q: unknown"),
        ({"methods": [{"method": "omp", "parameters": {"k": [0, 2]}}]}, "greater than 0, given 0"),
        ({"methods": ["omp"], "method": "omp"}, "method: stands beside `methods`; put it into one"),
        ({"method": "omp", "parameters": {"k": [0, 2]}}, "parameters.k: Input should be greater"),
        ({"methods": ["omp"], "verify": True}, "verify: unknown key"),
        ({"seed": []}, "seed: the list is empty; give one seed or more"),
        ({"seed": [0, -1]}, r"seed: give whole numbers from 0 on, given \[0, -1\]"),
        ({"seed": "x"}, "seed: give whole numbers from 0 on, given 'x'"),
        ({"device": "gpu"}, "device: give auto, cpu, cuda, cuda:N or mps, given 'gpu'"),
        ({"memory": "much"}, "memory: give a size such as 4GB"),
        ({"eval": {"window": 8, "stride": 9}}, "a stride of 9 skips text in windows of 8"),
    ],
    ids=str,
)
def test_what_is_not_valid_is_told_with_its_place(said: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        make_comparison({**PAIR, **said})
    assert str(caught.value).startswith("the comparison is not valid:")


def test_all_faults_are_told_at_once() -> None:
    entries = [
        {"method": "omp", "parameters": {"k": []}},
        "foo",
        {"method": "pieces", "parameters": {"strategy": ["first", "frist"], "decy": 3}},
    ]
    found = faults({**PAIR, "methods": entries})
    assert [line.partition(":")[0] for line in found] == [
        "methods.0.parameters.k",
        "methods.1.method",
        "methods.2.parameters.decy",
    ]


def test_flags_stand_over_the_file() -> None:
    file = {**PAIR, "method": "omp", "parameters": {"k": 3}, "eval": {"window": 64, "text": "a"}}
    flags = {"methods": ["mean"], "donor": "other", "seed": None}
    given = with_flags(file, flags, {"window": 32, "stride": None})
    assert given == {
        "base_model": "tiny-llama",
        "donor": "other",
        "methods": ["mean"],
        "eval": {"window": 32, "text": "a"},
    }
    assert with_flags({**PAIR, "eval": False}, {}, {}) == {**PAIR, "eval": False}


def test_a_sweep_is_put_into_the_methods() -> None:
    swept = with_sweep(with_sweep(PAIR, "omp.k=8,16"), "pieces.output.strategy=first,last")
    assert [label for label in labels(swept) if "=" in label] == [
        "omp k=8",
        "omp k=16",
        "pieces output.strategy=first",
        "pieces output.strategy=last",
    ]
    assert len(labels(swept)) == len(by_default()) + 2
    own = {"methods": ["mean", {"method": "omp", "parameters": {"ridge": 0.1}}]}
    assert labels(with_sweep(own, "omp.k=2,3")) == [
        "mean",
        "omp ridge=0.1 k=2",
        "omp ridge=0.1 k=3",
    ]
    assert labels(with_sweep({"method": "omp"}, "omp.center=true,false")) == [
        "omp center=true",
        "omp center=false",
    ]
    assert own["methods"][1] == {"method": "omp", "parameters": {"ridge": 0.1}}
    lists = with_sweep({"methods": ["focus"]}, "focus.text=[a, b], ['c,d']")
    assert lists["methods"][0]["parameters"] == {"text": [["a", "b"], ["c,d"]]}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("omp.k", "is not of the form METHOD.KEY=V1,V2; give it as omp.k=8,16"),
        ("omp=3", "is not of the form"),
        ("omp.k=", "is not of the form"),
        ("omp.k=,", "',' are no valid YAML values"),
        (".k=3", "is not of the form"),
        ("opm.k=3", "'opm' is no method; did you mean 'omp'"),
        ("ridge.penalty=1", "ridge is not among the methods that are compared; add it"),
        ("omp.k=[1,2", r"'\[1,2' are no valid YAML values; give it as omp.k=8,16"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(sweep: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        with_sweep({**PAIR, "methods": ["omp"]}, sweep)


def test_mixes_are_told_apart_by_their_parts() -> None:
    def mix(share: float) -> dict[str, Any]:
        parts = [{"method": "omp", "weight": share}, {"method": "mean", "weight": 1 - share}]
        return {"method": "mix", "parameters": {"of": parts}}

    runs = make_comparison({**PAIR, "methods": [mix(0.25), mix(0.5)]}).runs
    assert [run.label for run in runs] == ["0.25 omp + 0.75 mean", "0.5 omp + 0.5 mean"]
    assert {run.method for run in runs} == {"mix"}


def test_methods_may_differ_by_role_and_kind_and_what_draws_is_found_within() -> None:
    entries = [
        {"method": {"input": "pieces", "output": "omp"}, "parameters": {"output": {"k": [2, 4]}}},
        {"method": "mean", "per_kind": {"digits": "normal"}},
        {"method": "mix", "parameters": {"of": ["pieces", "normal"]}},
        {"method": "mix", "parameters": {"of": ["pieces", "mean"]}},
    ]
    runs = make_comparison({**PAIR, "methods": entries}).runs
    assert [(run.label, run.draws) for run in runs] == [
        ("pieces in, omp out output.k=2", False),
        ("pieces in, omp out output.k=4", False),
        ("mean; digits by normal", True),
        ("0.5 pieces + 0.5 normal", True),
        ("0.5 pieces + 0.5 mean", False),
    ]
