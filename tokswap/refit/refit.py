"""The refit of a plan on one screen: the text, the embedding, the head."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokswap.evaluation.swapped import SwappedModel
from tokswap.memory import default_budget
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import bar, note
from tokswap.ranks import Ranks
from tokswap.refit.asked import RefitPart
from tokswap.refit.context import Context, Work
from tokswap.refit.heads import fit
from tokswap.refit.held_out import held_out_cost, joined
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
    work: Work | None = None,
    swapped: SwappedModel | None = None,
) -> Refitted:
    """Refit the missing rows of a plan to text, the body frozen.

    Rows that the text does not tell of stay as the method made them; shared rows are not touched.

    Args:
        pair: The base and the donor.
        plan: The plan of a method for them.
        asked: The text, and what is to be done.
        work: Where it is done, and by whom; here, on the CPU, in a temporary folder without it.
        swapped: The loaded base, if it is.

    Raises:
        RefitError: If the text, the model or the disk is of no use.
        TokswapError: If the base or a text cannot be read.
        RankError: If another rank fails.
    """
    if work is None:
        with tempfile.TemporaryDirectory(prefix="tokswap-") as name:
            here = Work(Path(name), "cpu", Ranks(), default_budget("cpu"))
            return refit(pair, plan, asked, work=here, swapped=swapped)
    loaded = swapped or SwappedModel.load(pair, device=work.device)
    return _refit(Context(pair, asked, loaded, work), plan)


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
    # Of two tables the head is fitted to the states that the embedding in the end leads to. One
    # table is matched last, for rows that are matched alone are no good start for those of a head.
    steps = {"match": match} if matches else {}
    fits = {"output": fit} if asked.output else {}
    steps = fits | steps if tied else steps | fits
    for name, step in steps.items():
        plan, about[name] = step(context, plan)
    if tied:
        about |= joined([about[name].pop("whole", None) for name in steps])
    elif plan is not before:
        plan, about["whole"] = _better(context, before, plan)
    return Refitted(replace(plan, about={**plan.about, "refit": about}), about)


def _better(context: Context, before: Plan, after: Plan) -> tuple[Plan, dict[str, Any]]:
    """Read the held-out text with the method's rows and with the new ones; keep what is better.

    Raises:
        EvaluationError: If the model cannot be run.
        RankError: If another rank fails.
    """
    said: dict[str, Any] = {}
    if context.ranks.first:
        with bar("read held-out text", 2) as advance:
            costs = []
            for plan in (before, after):
                costs.append(held_out_cost(context, plan))
                advance(1)
        said = costs[0].to(costs[1])
    said = json.loads(context.ranks.share(json.dumps(said).encode())[0])
    if not said["kept"]:
        note("note: held-out text is the dearer for the refit; the method's rows stay")
    return (after if said["kept"] else before), said


def describe(context: Context) -> dict[str, Any]:
    """Say what is read, JSON-ready.

    Raises:
        RefitError: If there is too little of it.
        EvaluationError: If a text cannot be read.
    """
    cut = context.cut
    return {
        "text": context.names,
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
