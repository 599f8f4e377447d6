"""The refit of a plan on one screen: the text, the embedding, the head."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokswap.evaluation.swapped import SwappedModel
from tokswap.memory import default_budget
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.ranks import Ranks
from tokswap.refit.asked import RefitPart
from tokswap.refit.context import Context
from tokswap.refit.heads import fit
from tokswap.refit.rows import check_tables
from tokswap.refit.steps import blend, match


@dataclass(frozen=True, eq=False)
class Refitted:
    """A plan whose missing rows were refitted.

    Attributes:
        plan: The plan; the one that was given where nothing was the better for it.
        about: What was read, done and found, JSON-ready.
    """

    plan: Plan
    about: Mapping[str, Any]


def refit(
    pair: Pair,
    plan: Plan,
    asked: RefitPart,
    *,
    device: str = "cpu",
    swapped: SwappedModel | None = None,
    ranks: Ranks | None = None,
    folder: Path | None = None,
    memory: int | None = None,
    seed: int = 0,
) -> Refitted:
    """Refit the missing rows of a plan to text, the body frozen.

    Rows that the text does not tell of stay as the method made them; shared rows are not touched.

    Args:
        pair: The base and the donor.
        plan: The plan of a method for them.
        asked: The text, and what is to be done.
        device: Where to compute.
        swapped: The loaded base, if it is.
        ranks: The processes that share the work; each calls this.
        folder: Where the states of the text are kept meanwhile, and found again by a run that goes
            on; a temporary folder without it.
        memory: Bytes that may be taken; half of what there is without it.
        seed: Decides what is drawn.

    Raises:
        RefitError: If the text, the model or the disk is of no use.
        TokswapError: If the base or a text cannot be read.
        RankError: If another rank fails.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokswap-")))
        context = Context(
            pair,
            asked,
            swapped or SwappedModel.load(pair, device=device),
            device,
            ranks or Ranks(),
            folder,
            default_budget(device) if memory is None else memory,
            seed,
        )
        return _refit(context, plan)


def _refit(context: Context, plan: Plan) -> Refitted:
    asked, tied, before = context.asked, context.pair.layout.tied, plan
    matches = asked.match > 0 or asked.steps is not None
    doing: dict[Role, str] = {}
    if asked.output:
        doing["output"] = "refit the head (--set refit.output=false)"
    if matches:
        doing["input"] = "match the embedding (--refit-minutes)"
    check_tables(context.pair, doing)
    about = describe(context)
    new = about["new"]
    note(
        f"refit to {', '.join(about['text'])}: {new['seen']:,} of {new['missing']:,} new tokens "
        f"stand {new['times']:,} times in {about['tokens']:,} tokens"
    )
    if asked.blend and not tied:
        plan, about["blend"] = blend(context, plan)
    if matches:
        plan, about["match"] = match(context, plan)
    if asked.output:
        plan, about["output"] = fit(context, plan, before)
    return Refitted(replace(plan, about={**plan.about, "refit": about}), about)


def describe(context: Context) -> dict[str, Any]:
    """Say what is read, JSON-ready.

    Raises:
        RefitError: If there is too little of it.
        EvaluationError: If a text cannot be read.
    """
    cut = context.cut
    return {
        "text": [text.name for text in context.texts],
        "tokens": cut.tokens,
        "bytes": cut.bytes,
        "more": cut.more,
        "held_out": sum(len(window.targets) for window in cut.held_out),
        "new": {
            "missing": len(context.pair.alignment.missing),
            "seen": len(context.free),
            "times": context.times,
        },
    }
