"""What a transplant is: a base and a donor, aligned, and the plan of a method for them."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tokswap.blocks import Blocks
from tokswap.carry_out import Transplant, Work, carry_out
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import RecipeError
from tokswap.fitting import identities
from tokswap.held_out import check_before
from tokswap.names import resolve
from tokswap.pair import Pair, open_pair
from tokswap.peak_memory import checked
from tokswap.plan import Plan
from tokswap.planning import make_plan
from tokswap.recipe import Recipe, make_recipe
from tokswap.report.record import counts
from tokswap.report.untrained import untrained
from tokswap.vocabulary.identity import content_hash

OF_A_RUN = frozenset({"eval", "verify", "device", "dtype", "held_out"})
"""Keys of a recipe that have no part in the plan."""


def transplant(
    recipe: Recipe | None = None,
    *,
    overwrite: bool = False,
    plan_only: bool = False,
    resume: bool = False,
    **settings: Any,
) -> Transplant:
    """Give a base model the donor's vocabulary, and write the result as a checkpoint.

    Args:
        recipe: What to do; or its fields as keywords: ``transplant(base_model="tiny-llama",
            donor="tiny-mistral", method="omp", parameters={"k": 32}, out="out/demo")``. With
            ``like`` in the donor's place, ``base_model`` is a fine-tune of a base that was
            transplanted (:func:`tokswap.finetunes.transplant_like`).
        overwrite: Replace an earlier output of this program at the same place.
        plan_only: Write only the plan and the record: no weights, no tokenizer.
        resume: Go on from the blocks that a run to the same output had solved when it was stopped.
        **settings: Fields of :class:`~tokswap.recipe.Recipe`, where no recipe is given.

    Returns:
        What was written, planned and measured. Of several processes that `torchrun` started, only
        the first writes and measures; the others return their plan when it is made.

    Raises:
        RecipeError: If the recipe is not valid.
        TokswapError: If something is wrong with a model, the output folder or the
            result; an output folder appears whole or not at all.
    """
    if recipe is not None and settings:
        raise RecipeError(f"both a recipe and {', '.join(settings)} were given; give one of them")
    asked = recipe or make_recipe(settings)
    if asked.like:
        from tokswap.finetunes import transplant_like

        check_alone(plan_only=plan_only, resume=resume)
        return transplant_like(asked, overwrite=overwrite)
    work = Work(
        sources=[Checkpoint.open(asked.base_model), Checkpoint.open(asked.adopted)],
        target=Path(asked.out or default_out(asked)).expanduser(),
        open=lambda: (checked(open_pair(asked), asked), []),
        plan=partial(_made, asked, resume=resume),
        held_out=lambda pair, device: check_before(pair, asked, device),
    )
    return carry_out(asked, work, overwrite=overwrite, plan_only=plan_only, resume=resume)


def _made(
    recipe: Recipe, pair: Pair, device: str, blocks: Blocks, *, resume: bool
) -> tuple[Plan, list[str]]:
    """Make the plan of a recipe, and refit it to text if that is asked for."""
    if recipe.refit is None:
        return plan_for(pair, recipe, device, blocks), []
    from tokswap.refit.ahead import look_ahead
    from tokswap.refit.stage import refit_beside

    look_ahead(pair, recipe.refit)
    plan = plan_for(pair, recipe, device, blocks)
    target = Path(recipe.out or default_out(recipe)).expanduser()
    return refit_beside(target, pair, plan, recipe, device=device, blocks=blocks, resume=resume)


def check_alone(**flags: bool) -> None:
    """Check that nothing is asked for that is about a plan to be made.

    Raises:
        RecipeError: If it is.
    """
    if asked := [name.replace("_", "-") for name, there in flags.items() if there]:
        raise RecipeError(
            f"{asked[0]}: like a transplanted base there is nothing to be planned; leave it out"
        )


def plan_for(pair: Pair, recipe: Recipe, device: str = "cpu", blocks: Blocks | None = None) -> Plan:
    """Make the plan of a recipe for an opened pair.

    Raises:
        MethodError: If the method cannot work on this pair.
    """
    base, donor = pair.alignment.base, pair.alignment.donor
    about: dict[str, Any] = {
        "base": {"name": base.name, "sha256": content_hash(base)},
        "donor": {"name": donor.name, "sha256": content_hash(donor)},
        "recipe": {key: said for key, said in recipe.record().items() if key not in OF_A_RUN},
        "counts": counts(pair.alignment),
    }
    methods = recipe.methods.values()
    about["sources"] = {name: said for each in methods for name, said in each.sources().items()}
    tables = pair.tables()
    made = make_plan(
        pair.alignment, recipe.methods, tables, seed=recipe.seed, device=device, blocks=blocks
    )
    about["untrained"] = untrained(tables.untrained, pair.alignment)
    about["kept_bos"] = pair.kept_bos.to_dict() if pair.kept_bos else None
    return replace(made, about=about, tokens=identities(base, donor))


def default_out(recipe: Recipe) -> str:
    """Name an output folder from both models and the methods."""
    base, donor = resolve(recipe.base_model), resolve(recipe.adopted)
    if recipe.like:
        return f"{base.short}-{donor.short}"
    methods = "-".join(dict.fromkeys(recipe.filling.names.values()))
    return f"{base.short}-{donor.short}-{methods}{'-per-kind' * bool(recipe.per_kind)}"
