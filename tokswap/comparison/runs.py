"""What a comparison runs: one method with one value of every setting, and what each is called."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokswap.methods import METHODS
from tokswap.methods.pieces import Pieces
from tokswap.methods.pieces_presets import Preset
from tokswap.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """One method with one value of every setting.

    Attributes:
        label: What to call it; the same for all seeds, and for nothing else.
        method: The name of the method.
        recipe: What a transplant would be asked for.
        draws: Whether the rows depend on the seed.
    """

    label: str
    method: str
    recipe: Recipe
    draws: bool


def by_default() -> list[str]:
    """Name the methods that are compared where none is named.

    They are those that can work without settings, but for the presets that are then the same as
    ``pieces``, whose rows need not be measured again under other names.
    """
    found = []
    for name, kind in METHODS.items():
        if kind.wants or any(field.is_required() for field in kind.model_fields.values()):
            continue
        made = kind()
        if not isinstance(made, Preset) or made.pieces != Pieces():
            found.append(name)
    return found


def draws(recipe: Recipe) -> bool:
    """Tell whether the rows that a recipe asks for depend on its seed."""
    refit = recipe.refit
    drawn = refit is not None and (refit.match > 0 or refit.steps or refit.written != 0)
    return bool(drawn) or any(method.draws for method in recipe.methods.values())


def shown(recipe: Recipe) -> str:
    """Say which methods a recipe asks for: of a mix its parts, for there may be several mixes."""
    if recipe.label != "mix":
        return recipe.label
    return " / ".join(dict.fromkeys(str(method) for method in recipe.methods.values()))


def unlike(labels: Sequence[str]) -> list[str]:
    """Number the labels that stand for several."""
    seen: dict[str, int] = {}
    found: list[str] = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        found.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return found
