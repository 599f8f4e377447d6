"""Held-out anchors: the figure that says how well rows carry over from the donor to the base.

The true rows of a missing token are not known; those of an anchor are, in both models. So what a
method makes of an anchor from the other anchors tells what to expect of the missing tokens: in the
donor's space how well it describes a token, and in the base's how much of that holds there. A row
in the base that is no more like the true one than that of any other token carries nothing over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tokswap.errors import MethodError, RecipeError
from tokswap.memory import parse_size
from tokswap.methods import Role, needing_donor
from tokswap.pair import Pair, open_pair
from tokswap.recipe import Recipe, make_recipe
from tokswap.vocabulary.align import Alignment

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.planning import Tables
    from tokswap.reconstruction import Reconstruction

DIGITS = 4
"""Decimal places of the figures that are kept."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a method makes of held-out anchors.

    Attributes:
        recipe: The method with its settings, the seed, and how many were to be held out.
        alignment: The donor's vocabulary against the base's.
        tied: Whether one base table serves both roles; then there is ``input`` alone.
        roles: Figures of each token, by role.
    """

    recipe: Recipe
    alignment: Alignment
    tied: bool
    roles: "Mapping[Role, Reconstruction]"

    def summary(self) -> dict[str, dict[str, Any]]:
        """Sum up each role: what the record holds.

        Returns:
            By role ``anchors``, ``held_out`` and ``folds``, and under ``base`` and ``donor`` the
            ``mean``, ``lower`` quartile, ``median`` and ``upper`` quartile of each figure for the
            ``method``, the ``mean_row`` and an ``other_anchor``. Under ``donor`` the ``method`` is
            None where its rows are made by no weights.
        """
        return {
            role: {
                "anchors": found.anchors,
                "held_out": len(found.ids),
                "folds": found.folds,
                "base": {name: _sum_up(figures) for name, figures in found.base.items()},
                "donor": {name: _sum_up(figures) for name, figures in found.donor.items()},
            }
            for role, found in self.roles.items()
        }

    def tokens(self, role: Role = "input") -> list[dict[str, Any]]:
        """List the figures of each held-out token, the best in the base first.

        Returns:
            ``id``, ``token`` and the figures of the method's row in the ``base`` and the ``donor``
            (None where the row is made by no weights), by the cosine without the mean.
        """
        from tokswap.reconstruction import METHOD
        from tokswap.solvers.likeness import FIGURES

        found = self.roles[role]
        listed = [
            {
                "id": number,
                "token": self.alignment.donor.show(number),
                "base": _named(FIGURES, in_base),
                "donor": _named(FIGURES, in_donor) if in_donor[0] == in_donor[0] else None,
            }
            for number, in_base, in_donor in zip(
                found.ids, found.base[METHOD].tolist(), found.donor[METHOD].tolist(), strict=True
            )
        ]
        return sorted(listed, key=lambda said: (-said["base"]["centered_cosine"], said["id"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: the summary with the figures of every token."""
        said = self.recipe.record()
        names = ("base_model", "donor", "method", "parameters", "per_kind", "seed")
        roles = self.summary()
        for role in self.roles:
            roles[role]["tokens"] = self.tokens(role)
        return {name: said[name] for name in names} | {"tied": self.tied, "roles": roles}


def hold_out(recipe: Recipe | None = None, **settings: Any) -> HeldOut:
    """Fill some anchors from the others and compare them with what they are; nothing is written.

    Args:
        recipe: The models, the method, and how many anchors to hold out; or its fields as keywords:
            ``hold_out(base_model="tiny-llama", donor="tiny-mistral", parameters={"k": 8},
            held_out="all")``.
        **settings: Fields of :class:`~tokswap.recipe.Recipe`, where no recipe is given.

    Raises:
        RecipeError: If the recipe is not valid, or holds out nothing.
        MethodError: If the method reads no donor's weights or cannot work on this pair.
        TokswapError: If one of the models cannot be had or is not supported.
    """
    if recipe is not None and settings:
        raise RecipeError(f"both a recipe and {', '.join(settings)} were given; give one of them")
    return hold_out_each([recipe or make_recipe(settings)])[0]


def hold_out_each(recipes: Sequence[Recipe]) -> list[HeldOut]:
    """Do the same for several recipes that differ in the method's settings alone.

    Raises:
        RecipeError: If one holds out nothing.
        MethodError: If a method reads no donor's weights or cannot work on this pair.
        TokswapError: If one of the models cannot be had or is not supported.
    """
    for recipe in recipes:
        if not recipe.needs_donor:
            others = ", ".join(needing_donor())
            raise MethodError(
                f"{recipe.label} reads no donor's weights, so anchors tell nothing of its rows; "
                f"choose a method that does: {others}"
            )
        if not recipe.held_out:
            raise RecipeError("held_out: 0 anchors tell nothing; give a number, or all")
    pair = open_pair(recipes[0])
    outliers = {
        tuple(getattr(method, "outliers", None) for method in recipe.methods.values())
        for recipe in recipes
    }
    tables = pair.tables()
    return [
        # Which rows are untrained is found once, unless that is what differs.
        check(pair, recipe, replace(tables, untrained={}) if len(outliers) > 1 else tables)
        for recipe in recipes
    ]


def check(pair: Pair, recipe: Recipe, tables: "Tables", device: str | None = None) -> HeldOut:
    """Hold out anchors of an opened pair.

    Args:
        pair: The base and the donor.
        recipe: The method, and how many to hold out.
        tables: The pair's tables.
        device: Where to compute; without it, as the recipe says.

    Raises:
        MethodError: If the method cannot work on this pair.
    """
    from tokswap.evaluation.measure import pick_device
    from tokswap.reconstruction import reconstruct

    tables_of: tuple[Role, ...] = ("input",) if tables.tied else ("input", "output")
    roles = [role for role in tables_of if recipe.methods[role].needs_donor]
    if not roles:
        raise MethodError(
            f"the head of {pair.base.name!r} is its embedding (tied), which {recipe.label} fills "
            "without the donor's weights, so anchors tell nothing of its rows; choose a method "
            "that reads them for the input role"
        )
    found = {
        role: reconstruct(
            pair.alignment,
            recipe.methods[role],
            tables,
            role,
            count=None if recipe.held_out == "all" else recipe.held_out,
            seed=recipe.seed,
            device=device or pick_device(recipe.device),
            memory=parse_size(recipe.memory) if recipe.memory else None,
        )
        for role in roles
    }
    return HeldOut(recipe, pair.alignment, tables.tied, found)


def check_before(pair: Pair, recipe: Recipe, device: str) -> dict[str, Any] | None:
    """Sum up what held-out anchors say before a plan is made.

    Returns:
        The summary; ``{"not_checked": why}`` where there is nothing to hold out; None where
        nothing is missing, nobody asks, or the method reads no donor's weights.
    """
    if not recipe.held_out or not recipe.needs_donor or not len(pair.alignment.missing):
        return None
    try:
        return check(pair, recipe, pair.tables(), device).summary()
    except MethodError as error:  # of k, perhaps, which fits all anchors and not those left
        return {"not_checked": str(error)}


def _sum_up(figures: "Tensor") -> dict[str, dict[str, float]] | None:
    from tokswap.solvers.likeness import FIGURES, quartiles

    figures = figures[~figures.isnan().any(dim=1)]
    if not len(figures):
        return None
    return {
        name: {key: round(value, DIGITS) for key, value in quartiles(figures[:, place]).items()}
        for place, name in enumerate(FIGURES)
    }


def _named(names: Sequence[str], figures: Sequence[float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in zip(names, figures, strict=True)}
