"""The refit as a stage of a transplant: its files beside the target, and how a run goes on."""

from pathlib import Path

from tokswap.blocks import Blocks
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.recipe import Recipe
from tokswap.refit.context import Work
from tokswap.refit.refit import refit
from tokswap.refit.report import notes
from tokswap.refit.store import clear_folder


def refit_beside(
    target: Path,
    pair: Pair,
    plan: Plan,
    recipe: Recipe,
    *,
    device: str,
    blocks: Blocks,
    resume: bool,
) -> tuple[Plan, list[str]]:
    """Refit the plan of a recipe, with its files in a folder beside the output.

    Args:
        target: The output folder.
        pair: The base and the donor.
        plan: The method's plan.
        recipe: What is asked for.
        device: Where to compute.
        blocks: What solves, which knows the memory and the other processes.
        resume: Go on from what a run that was stopped has left there.

    Returns:
        The refitted plan, and what the user should know of it.

    Raises:
        RefitError: If the text, the model or the disk is of no use.
        TokswapError: If the base or a text cannot be read, or another rank fails.
    """
    assert recipe.refit is not None  # noqa: S101 - asked by the caller
    resolved = target.resolve()
    folder = resolved.parent / f".{resolved.name}.refit"
    if blocks.ranks.first and folder.is_dir() and not resume:
        note(f"note: {folder} of an earlier run is cleared; --resume would go on from it")
        clear_folder(folder)
    work = Work(folder, device, blocks.ranks, blocks.memory(device), recipe.seed)
    try:
        found = refit(pair, plan, recipe.refit, work=work)
    except BaseException:
        if blocks.ranks.first and folder.is_dir():
            if any(folder.iterdir()):
                note(f"what was read is kept in {folder}; the same command with --resume goes on")
            else:
                clear_folder(folder)
        raise
    if blocks.ranks.first:
        clear_folder(folder)
    return found.plan, notes(found.about)
