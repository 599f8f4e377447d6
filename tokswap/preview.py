"""A transplant looked at before it is made: what it would fetch, compute and write."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokswap.beside import look_beside
from tokswap.checkpoint.leftovers import leftovers
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import check_target
from tokswap.estimate import Disk, Estimate, estimate
from tokswap.evaluation.measure import pick_device, settle_window
from tokswap.finetunes import FineTune
from tokswap.pair import open_pair
from tokswap.peak_memory import checked
from tokswap.pipeline import check_alone, default_out
from tokswap.recipe import Recipe
from tokswap.refit.ahead import Ahead, look_ahead
from tokswap.report.warnings import warnings_for
from tokswap.stages import check_texts, is_measurable
from tokswap.tokenizer_folder import settle


@dataclass(frozen=True)
class Preview:
    """What a transplant would do.

    Attributes:
        out: The folder that would be written.
        recipe: What was asked for.
        estimate: What would be fetched, computed and written.
        disks: The disks that would be written to.
        refit: What the rows would be refitted to, if they would.
        leftovers: Folders that killed runs have left beside the target.
        warnings: What the user should know.
    """

    out: Path
    recipe: Recipe
    estimate: Estimate
    disks: tuple[Disk, ...]
    refit: Ahead | None
    leftovers: tuple[Path, ...]
    warnings: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether the disks have room."""
        return all(disk.enough for disk in self.disks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "dry_run": True,
            "out": str(self.out),
            "recipe": self.recipe.record(),
            **self.estimate.to_dict(),
            "disks": [{**asdict(disk), "enough": disk.enough} for disk in self.disks],
            "enough_room": self.enough,
            "refit": None if self.refit is None else self.refit.to_dict(),
            "leftovers": [str(path) for path in self.leftovers],
            "warnings": list(self.warnings),
        }


def preview(recipe: Recipe, *, overwrite: bool = False, plan_only: bool = False) -> Preview:
    """Tell what a transplant would fetch, compute and write; nothing is written but the cache.

    Of remote models the settings, the tokenizers and the headers are fetched, no tensors.

    Args:
        recipe: What to do.
        overwrite: Whether an earlier output of this program may be replaced.
        plan_only: Whether only the plan is asked for.

    Raises:
        TokswapError: If the transplant would be refused.
    """
    pick_device(recipe.device)
    target = Path(recipe.out or default_out(recipe)).expanduser()
    sources = [Checkpoint.open(recipe.base_model), Checkpoint.open(recipe.adopted)]
    check_target(target, sources, overwrite=overwrite)
    check_texts(recipe, target)
    measured = not plan_only and is_measurable(recipe, sources[0])
    told: list[str] = []
    if recipe.like:
        check_alone(plan_only=plan_only)
        run = FineTune(recipe)
        recipe = run.recipe
        check_target(target, [*sources, run.made.original], overwrite=overwrite)
        pair, told = run.align()
        expected = run.estimate(pair, recipe)
    else:
        pair = checked(open_pair(recipe), recipe)
        expected = estimate(pair, recipe, plan_only=plan_only)
    notes = [] if plan_only else [*look_beside(pair, recipe).notes, *settle(pair).notes()]
    if measured and pair.layout.causal and recipe.eval is not None:
        settle_window([pair.base], recipe.eval.window, recipe.eval.stride)
    return Preview(
        out=target,
        recipe=recipe,
        estimate=expected,
        disks=tuple(expected.disks(target)),
        refit=None if recipe.refit is None else look_ahead(pair, recipe.refit),
        leftovers=tuple(leftovers(target)),
        warnings=tuple(dict.fromkeys([*told, *warnings_for(pair, recipe), *notes])),
    )
