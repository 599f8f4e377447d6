"""The keys of a recipe as tables, read from its fields: ``python -m tokswap.report.keys``.

recipes/README.md holds what this prints; a test compares the two.
"""

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tokswap.comparison.recipe import Comparison, Entry
from tokswap.hypernet.training.recipe import (
    HeldOutPart,
    LossPart,
    NetworkPart,
    OptimizerPart,
    SourcePart,
    TokenizersPart,
    TrainRecipe,
)
from tokswap.methods import METHODS
from tokswap.recipe import Recipe
from tokswap.recipe_parts import EvalPart, TensorsPart, TokenizerPart, TokenOverride
from tokswap.refit.asked import RefitPart

PARTS: dict[str, type[BaseModel]] = {
    "": Recipe,
    "tokenizer.": TokenizerPart,
    "tokenizer.tokens.TOKEN.": TokenOverride,
    "tensors.": TensorsPart,
    "refit.": RefitPart,
    "eval.": EvalPart,
}
"""The mappings of a recipe by what stands before their keys."""

WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    list: "list",
}
BOUNDS = {"gt": "over {}", "ge": "at least {}", "lt": "under {}", "le": "at most {}"}


TRAINING: dict[str, type[BaseModel]] = {
    "": TrainRecipe,
    "sources.N.": SourcePart,
    "network.": NetworkPart,
    "tokenizers.": TokenizersPart,
    "loss.": LossPart,
    "optimizer.": OptimizerPart,
    "held_out.": HeldOutPart,
}
"""The same of what `tokswap hypernet train` is asked."""

COMPARISON: dict[str, type[BaseModel]] = {"": Comparison, "methods.N.": Entry}
"""The same of what `tokswap compare` is asked."""


def comparison_keys() -> str:
    """Write the keys of a comparison that a recipe does not have, or has in another way."""
    shared = {name: field.description for name, field in Recipe.model_fields.items()}
    rows = [
        _row(f"{before}{name}", field)
        for before, part in COMPARISON.items()
        for name, field in part.model_fields.items()
        if before or shared.get(name) != field.description
    ]
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def training_keys() -> str:
    """Write every key of a training's recipe."""
    rows = [
        _row(prefix + name, field)
        for prefix, part in TRAINING.items()
        for name, field in part.model_fields.items()
    ]
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def recipe_keys() -> str:
    """Write every key of a recipe, and every setting of the methods, as two Markdown tables."""
    keys = [
        _row(prefix + name, field)
        for prefix, part in PARTS.items()
        for name, field in part.model_fields.items()
    ]
    settings = [
        "| " + " | ".join([f"`{method}`", *cells(name, field)]) + " |"
        for method, kind in METHODS.items()
        for name, field in kind.model_fields.items()
    ]
    return "\n".join(
        [
            "| key | value | default | meaning |",
            "|---|---|---|---|",
            *keys,
            "",
            "| `method` | key under `parameters` | value | default | meaning |",
            "|---|---|---|---|---|",
            *settings,
        ]
    )


def cells(key: str, field: FieldInfo) -> list[str]:
    """What a table tells of a key: its name, its values, its default and its meaning."""
    return [f"`{key}`", _values(field), _default(field), field.description or ""]


def _row(key: str, field: FieldInfo) -> str:
    return f"| {' | '.join(cells(key, field))} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, (BaseModel, dict, list)):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    words = " or ".join(dict.fromkeys(_kinds(field.annotation)))
    bounds = [
        text.format(f"{limit:g}")
        for part in field.metadata
        for bound, text in BOUNDS.items()
        if (limit := getattr(part, bound, None)) is not None
    ]
    return ", ".join([words, *bounds])


def _kinds(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        yield ", ".join(f"`{value}`" for value in get_args(annotation))
    elif origin in {Union, types.UnionType}:
        for part in get_args(annotation):
            yield from _kinds(part)
    elif annotation is not types.NoneType:
        yield WORDS.get(origin or annotation, "mapping")


if __name__ == "__main__":
    print(recipe_keys(), comparison_keys(), training_keys(), sep="\n\n")  # noqa: T201 - the module's work when run
