"""Recipes of trainings: every fault with its place, what is told apart, and what decides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tokswap.errors import RecipeError
from tokswap.hypernet.training.recipe import (
    TrainRecipe,
    load_train_recipe,
    make_train_recipe,
)

LEAST = {"base_model": "b", "out": "o"}


def faults(said: dict[str, Any], *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        make_train_recipe({**LEAST, **said}, settings)
    head, _, rest = str(caught.value).partition(" is not valid:")
    assert head == "the request"
    return [line.strip() for line in rest.splitlines() if line.strip()]


def test_a_recipe_needs_a_base_and_a_folder() -> None:
    with pytest.raises(RecipeError) as caught:
        make_train_recipe({})
    assert "base_model: is missing" in str(caught.value)
    assert "out: is missing" in str(caught.value)


def test_all_faults_are_told_at_once_with_their_places() -> None:
    said = {
        "steps": -1,
        "sources": [{"text": []}, {"text": "a", "dataset": "b"}, {"text": "x", "langage": "en"}],
        "network": {"layers": "three", "pieces": 0},
        "loss": {"temperature": 0, "text": -1.0},
        "optimiser": {},
        "device": "gpu",
    }
    assert {fault.partition(":")[0] for fault in faults(said)} == {
        "steps", "sources.0", "sources.1", "sources.2.langage", "network.layers",
        "network.pieces", "loss.temperature", "loss.text", "optimiser", "device",
    }  # fmt: skip
    assert "optimiser: unknown key; did you mean 'optimizer'?" in faults(said)
    assert "sources.0: give either text files or a dataset" in faults(said)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("loss.temperature=.inf", "loss.temperature: "),
        ("loss.text=.nan", "loss.text: "),
        ("optimizer.rate=.inf", "optimizer.rate: "),
        ("tokenizers.spread=21", "tokenizers.spread: "),
        ("tokenizers.size=511", "tokenizers.size: "),
        ("network.pieces=513", "network.pieces: "),
        ("network={width: 100, heads: 3}", "network.heads: 3 heads do not divide a width of 100"),
        ("masked=1.0", "masked: "),
        ("length=1", "length: "),
        ("steps=true", "steps: "),
        ("keep=0", "keep: "),
        ("seed=-1", "seed: "),
        ("identity_steps=200001", "identity_steps: 200001 are more than 200000 steps"),
        ("loss={text: 0, auxiliary: 0}", "loss: all weights are 0"),
        ("sources=[{text: a, language: en}, {text: b}]", "sources: give all of them a language"),
        ("sources=[{text: a, weight: 0}]", "sources.0.weight: "),
        ("held_out={}", "held_out.tokenizer: is missing"),
        ("held_out={tokenizer: t, language: fr}", "held_out.language: 'fr' is the language of no"),
    ],
)
def test_settings_of_no_use(setting: str, fault: str) -> None:
    found = faults({}, setting)
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("optimizer.rate=1e-5", "rate", 1e-5),  # YAML calls that a string
        ("optimizer.clip=1", "clip", 1.0),
        ("optimizer.warm_up=0", "warm_up", 0),
    ],
)
def test_numbers_as_they_are_written(setting: str, place: str, value: float) -> None:
    assert getattr(make_train_recipe(LEAST, [setting]).optimizer, place) == value


def test_one_file_is_a_list_of_one() -> None:
    made = make_train_recipe({**LEAST, "sources": [{"text": "a.txt"}]})
    assert made.sources[0].text == ["a.txt"]


def test_a_training_that_only_learns_the_bases_rows_needs_no_loss() -> None:
    said = {"steps": 5, "identity_steps": 5, "loss": {"text": 0, "auxiliary": 0}}
    assert make_train_recipe({**LEAST, **said}).loss.text == 0


def test_languages_are_those_of_the_sources_in_their_order() -> None:
    sources = [{"text": "x", "language": name} for name in ("fr", "en", "fr", "de")]
    made = make_train_recipe({**LEAST, "sources": sources})
    assert made.languages == ["fr", "en", "de"]
    assert make_train_recipe({**LEAST, "sources": [{"text": "x"}]}).languages == []
    assert make_train_recipe(LEAST).languages == []


def test_what_decides_the_weights() -> None:
    made = make_train_recipe(LEAST)
    free = {
        "out": "elsewhere", "report_every": 1, "keep_every": 7, "keep": 9, "device": "cpu",
        "held_out": {"tokenizer": "t"},
    }  # fmt: skip
    assert make_train_recipe({**LEAST, **free}).deciding() == made.deciding()
    for setting in ("seed=1", "micro_texts=3", "optimizer.rate=1", "sources=[{text: a}]"):
        assert make_train_recipe(LEAST, [setting]).deciding() != made.deciding()


def test_a_file_with_settings_and_another_folder(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("base_model: b\nout: o\noptimizer: {rate: 3e-4, warm_up: 5}\n")
    made = load_train_recipe(path, ["optimizer.warm_up=6", "steps=20000"], out="p")
    assert (made.out, made.steps) == ("p", 20000)
    assert (made.optimizer.rate, made.optimizer.warm_up) == (3e-4, 6)
    path.write_text("base_model: b\nsteps: none\n")
    with pytest.raises(
        RecipeError, match=r"train\.yaml is not valid:\n  out: is missing\n  steps:"
    ):
        load_train_recipe(path)


def parts(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield kind
    for field in kind.model_fields.values():
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from parts(inner)


def test_every_field_is_described() -> None:
    found = {kind.__name__: kind for kind in parts(TrainRecipe)}
    assert len(found) == 7
    for name, kind in found.items():
        for key, field in kind.model_fields.items():
            assert field.description, f"{name}.{key}"
