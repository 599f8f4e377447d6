"""The recipes of trainings that are shipped, and the table of their keys."""

from pathlib import Path

import pytest

from tokswap.hypernet.training.recipe import load_train_recipe, make_train_recipe
from tokswap.report.keys import training_keys

FOLDER = Path(__file__).parents[3] / "recipes"
SHIPPED = sorted((FOLDER / "hypernet").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"tiny-llama", "llama"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_recipe_is_valid(path: Path) -> None:
    recipe = load_train_recipe(path)
    assert recipe.out == f"out/hypernet-{path.stem}"
    assert make_train_recipe(recipe.model_dump(mode="json")) == recipe
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"#     tokswap hypernet train recipes/hypernet/{path.name}" in lines


def test_the_readme_has_every_key() -> None:
    said = training_keys()
    assert f"\n{said}\n" in (FOLDER / "README.md").read_text(encoding="utf-8"), (
        "recipes/README.md is stale; put in what `python -m tokswap.report.keys` prints"
    )
    rows = [row for row in said.splitlines() if row.startswith("| `")]
    assert all(row.rsplit("|", 2)[1].strip() for row in rows)
