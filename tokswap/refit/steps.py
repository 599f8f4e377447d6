"""The steps of a refit, each from a plan to a plan and what is to be said of it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokswap.blocks import digest
from tokswap.checkpoint.tables import load_table
from tokswap.plan import Plan
from tokswap.refit.behind import KindOf, losses_behind, standard_error
from tokswap.refit.blend import find_blend, kind_name
from tokswap.refit.context import Context, base_identity
from tokswap.refit.matching import Matcher
from tokswap.refit.progress import MatchProgress
from tokswap.refit.rows import bias_of, blended, of_first, rows_of, with_rows
from tokswap.refit.tied import best_part, parts

SHARES = (1.0, 0.5, 0.25, 0.125)
"""How far a base with one table is tried to go to the matched rows: as those of a head they may be
the worse for it."""


def blend(context: Context, plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Put the best share of their last pieces into the embedding's rows of the free tokens.

    The others keep the method's rows: what is best for a kind was seen in one text alone.
    """
    alignment, free = context.pair.alignment, context.free.tolist()
    kind_of, stays, name = _behind(context)
    found = find_blend(
        context.cut.fit,
        lambda share: context.swapped.model(blended(plan, alignment, dict.fromkeys(free, share))),
        kind_of,
        stays,
        name,
    )
    if found is None:
        return plan, {}
    rest = found.shares[""]
    shares = {number: found.shares.get(kind_of(number) or "", rest) for number in free}
    shown = {kind: share for kind, share in found.shares.items() if kind}
    about = {"shares": shown, "before": found.before, "after": found.after}
    return blended(plan, alignment, shares), about


def _behind(context: Context) -> tuple[KindOf, Tensor, str]:
    """Say which tokens are free and of which kind, which rows stay, and what messages call it."""
    alignment, spelling = context.pair.alignment, context.pair.donor.vocabulary.spelling
    kinds = {token: kind_name(spelling[token]) for token in context.free.tolist()}
    stays = torch.ones(alignment.rows, dtype=torch.bool)
    stays[torch.from_numpy(alignment.missing)] = False
    return kinds.get, stays.to(context.device), context.name


def match(context: Context, plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Let the rows of the embedding learn through the body.

    They are kept if held-out tokens behind them are the cheaper for it, by a standard error: that
    states come closer to those of the pieces is no end in itself. A base with one table goes a part
    of the way to them, if that is better in both roles.

    Raises:
        RefitError: If states are not finite.
        RankError: If another rank fails.
    """
    table = load_table(context.pair.base, context.pair.layout.input).float()
    start = rows_of(plan.roles["input"], context.free, table).to(context.device)
    model = context.swapped.model(plan)
    asked = context.asked
    said = {
        "read": [one.read for part in context.lessons for one in part],
        "spelt": [one.spelt for part in context.lessons for one in part],
        "minutes": asked.match,
        "steps": asked.steps,
        "seed": context.seed,
        "base": base_identity(context.pair.base),
    }
    kept = MatchProgress(context.work.folder, digest(said, context.free, start), context.ranks)
    matcher = Matcher(model, context.swapped.base, context.place, context.name, context.ranks, kept)
    found = matcher.learn(
        context.lessons,
        start,
        minutes=asked.match,
        steps=asked.steps,
        seed=context.seed,
        size=float(table.square().mean().sqrt()),
    )
    rows = found.rows
    about: dict[str, Any] = {"before": found.before, "after": found.after, "steps": found.steps}
    about["kept"] = found.kept
    if found.kept and context.pair.layout.tied:
        if context.ranks.first:
            best, tried = best_part(context, plan, parts(start, rows, SHARES))
            rows, about = (start if best is None else best.rows), about | tried
        rows, about = of_first(context.ranks, rows, about)
    elif found.kept:
        about |= _told_behind(context, plan, _matched(context, plan, rows))
        rows, about = of_first(context.ranks, rows, about)
    return (_matched(context, plan, rows) if about["kept"] else plan), about


def _told_behind(context: Context, before: Plan, after: Plan) -> dict[str, Any]:
    """Say what held-out tokens behind free ones cost with two plans, and whether that is less."""
    told = [
        losses_behind(context.swapped.model(plan), context.cut.held_out, *_behind(context))[0]
        for plan in (before, after)
    ]
    apart = told[1] - told[0]
    if not len(apart):
        return {"kept": False}
    return {
        "behind": {"before": float(told[0].mean()), "after": float(told[1].mean())},
        "kept": float(apart.mean()) < -float(standard_error(apart)),
    }


def _matched(context: Context, plan: Plan, rows: Tensor) -> Plan:
    """Hold matched rows in the embedding, which a tied base's head has part in."""
    roles = {"output": plan.roles.get("output", plan.roles["input"])}
    bias = bias_of(context.pair, plan) if context.pair.layout.tied else None
    roles["input"] = with_rows(plan.roles["input"], context.free, rows, bias)
    return replace(plan, roles={role: roles[role] for role in plan.roles})
