"""Give a language model another model's tokenizer, without training.

The commands' functions, imported when they are first used, so that ``import tokswap`` is cheap:

- :func:`transplant`: a base and a donor in, a patched checkpoint out.
- :func:`apply`: a saved plan onto a fine-tune, a larger sibling or a quantised copy.
- :func:`extend`: more tokens for a model's own tokenizer, and rows for them.
- :func:`evaluate`: bits per byte of models, whatever their tokenizers.
- :func:`inspect`: what two vocabularies share, and where a token's row comes from.
- :func:`hold_out`: how well rows carry over, told by anchors that are filled from the others.
- :func:`compare`: several methods on one pair, measured on one text.
- :func:`check`: whether one model can draft for another, and how well.
- :func:`embed`: any text as one token of a model: its rows, and which tokens are near.
- :func:`embedder`: the rows of any bytes, as often as they are asked for.
- :func:`evaluate_dynamic`: bits per byte after a text whose frequent pairs are merged.
- :func:`train_hypernet`: a network that predicts the rows of any token of a base.
- :class:`Plan`: the sparse matrix behind a transplant, to save, load, explain and apply.
- :class:`TokswapError`: the base of all errors that a user can mend.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokswap.application import apply
    from tokswap.comparison.compare import compare
    from tokswap.errors import TokswapError
    from tokswap.evaluation.draft import check
    from tokswap.evaluation.dynamic import evaluate_dynamic
    from tokswap.evaluation.measure import evaluate
    from tokswap.extension import extend
    from tokswap.held_out import hold_out
    from tokswap.hypernet.training.train import train_hypernet
    from tokswap.inspection import inspect
    from tokswap.on_demand.describe import embed
    from tokswap.on_demand.embedder import embedder
    from tokswap.pipeline import transplant
    from tokswap.plan import Plan
    from tokswap.recipe import Recipe, load_recipe

_HOMES = {
    "Plan": "tokswap.plan",
    "Recipe": "tokswap.recipe",
    "TokswapError": "tokswap.errors",
    "apply": "tokswap.application",
    "check": "tokswap.evaluation.draft",
    "compare": "tokswap.comparison.compare",
    "embed": "tokswap.on_demand.describe",
    "embedder": "tokswap.on_demand.embedder",
    "evaluate": "tokswap.evaluation.measure",
    "evaluate_dynamic": "tokswap.evaluation.dynamic",
    "extend": "tokswap.extension",
    "hold_out": "tokswap.held_out",
    "inspect": "tokswap.inspection",
    "load_recipe": "tokswap.recipe",
    "train_hypernet": "tokswap.hypernet.training.train",
    "transplant": "tokswap.pipeline",
}

__all__ = [
    "Plan",
    "Recipe",
    "TokswapError",
    "apply",
    "check",
    "compare",
    "embed",
    "embedder",
    "evaluate",
    "evaluate_dynamic",
    "extend",
    "hold_out",
    "inspect",
    "load_recipe",
    "train_hypernet",
    "transplant",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokswap' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
