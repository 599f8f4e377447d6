"""``tokswap methods`` and ``tokswap models``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.methods import DEFAULT, METHODS
from tokswap.names import ALIASES, BUNDLED, BUNDLED_FOLDER

Run = Callable[..., Any]


def test_methods(tokswap: Run) -> None:
    ran = tokswap("methods")
    assert (ran.code, ran.err) == (0, "")
    for name, kind in METHODS.items():
        for said in (name, kind.summary, kind.paper, *kind.model_fields):
            assert said in ran.out
    assert f"{DEFAULT} (default)" in ran.out


def test_one_method(tokswap: Run) -> None:
    ran = tokswap("methods", "tokenadapt")
    assert (ran.code, ran.err) == (0, "")
    for name, field in METHODS["tokenadapt"].model_fields.items():
        assert f"  {name}: " in ran.out
        assert (field.description or "").replace("`", "") in ran.out
    assert "interpolate" not in ran.out
    assert [m["name"] for m in json.loads(tokswap("methods", "mix", "--json").out)["methods"]] == [
        "mix"
    ]
    wrong = tokswap("methods", "tokenadap")
    assert (wrong.code, wrong.out) == (1, "")
    assert "did you mean 'tokenadapt'?" in wrong.err


def test_settings_are_listed_as_they_are_given(tokswap: Run) -> None:
    said = tokswap("methods").out
    assert "normalize=true" in said
    assert "penalty=null" in said
    assert "of=[omp, pieces]" in said


def test_methods_as_json(tokswap: Run) -> None:
    said = json.loads(tokswap("methods", "--json").out)["methods"]
    assert [method["name"] for method in said] == list(METHODS)
    assert [method["name"] for method in said if method["default"]] == [DEFAULT]
    for method in said:
        kind = METHODS[method["name"]]
        assert method["needs_donor_weights"] == kind().needs_donor
        assert method["settings"] == kind().model_dump()


def test_models(tokswap: Run, tmp_path: Path) -> None:
    (tmp_path / "aliases.yaml").write_text("mine: some/where\nllama: some/other\n")
    ran = tokswap("models")
    assert (ran.code, ran.err) == (0, "")
    for said in ("mine", "some/where", "some/other", *BUNDLED, ALIASES["mistral"]):
        assert said in ran.out
    assert ALIASES["llama"] not in ran.out  # the user's own alias wins
    said = json.loads(tokswap("models", "--json").out)
    assert said["aliases_file"] == str(tmp_path / "aliases.yaml")
    about = {row["name"]: (row["about"], row["from"]) for row in said["models"]}
    assert about["mine"] == ("some/where", str(tmp_path / "aliases.yaml"))
    assert about["mistral"] == (ALIASES["mistral"], "tokswap")
    assert about["tiny-llama"][1] == "bundled"


@pytest.mark.parametrize("content", ["- a\n", "a: [1\n", "a: 3\n"])
def test_a_damaged_aliases_file_is_named(tokswap: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "aliases.yaml").write_text(content)
    ran = tokswap("models")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {tmp_path / 'aliases.yaml'} ")


def test_a_user_alias_names_a_model(tokswap: Run, tmp_path: Path) -> None:
    (tmp_path / "aliases.yaml").write_text(f"mine: {BUNDLED_FOLDER / 'tiny-llama'}\n")
    said = json.loads(tokswap("inspect", "-b", "mine", "-d", "tiny-mistral", "--json").out)
    assert (said["base"], said["base_size"]) == ("mine", 6144)
