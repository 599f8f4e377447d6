"""Which fitted rows a base with one table keeps: they are read as well as predicted.

The fit knows the rows as those of a head. As rows of an embedding they lead to other states than
the ones they were fitted to, so each candidate is tried whole, in the model, on held-out text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tokswap.checkpoint.tables import load_table
from tokswap.plan import Plan
from tokswap.progress import bar
from tokswap.refit.context import Context
from tokswap.refit.held_out import held_out_cost
from tokswap.refit.rows import bias_of, rows_of, with_rows


@dataclass(frozen=True, eq=False)
class Part:
    """Candidate rows.

    Attributes:
        strength: λ of the pull.
        share: How far they go from the rows at the start to the fitted ones.
        rows: (A, D) the rows.
    """

    strength: float
    share: float
    rows: Tensor


def best_part(
    context: Context, plan: Plan, before: Plan, candidates: Sequence[Part]
) -> tuple[Tensor, dict[str, Any]]:
    """Try candidates in the model.

    Args:
        context: What the refit works on.
        plan: The plan whose rows they take the place of.
        before: The method's plan.
        candidates: The rows.

    Returns:
        The best rows, and what is to be said.

    Raises:
        EvaluationError: If a model cannot be run.
    """
    plans = [before, *(_plan(context, plan, one) for one in candidates)]
    if plan is not before:
        plans.append(plan)
    with bar("try rows in both roles", len(plans)) as advance:
        costs = []
        for one in plans:
            costs.append(held_out_cost(context, one))
            advance(1)
    losses = [cost.all for cost in costs]
    better = [number for number, cost in enumerate(costs) if cost.better(costs[0])]
    tried = [
        {"strength": one.strength, "share": one.share, "gain": losses[0] - loss}
        for one, loss in zip(candidates, losses[1:], strict=False)
    ]
    best = min(better, key=losses.__getitem__, default=0)
    about: dict[str, Any] = {"tried": tried, "kept": best > 0, "gain": losses[0] - losses[best]}
    # The model as a whole is what has just been read.
    about["whole"] = costs[0].to(costs[best or min(range(1, len(costs)), key=losses.__getitem__)])
    if 0 < best <= len(candidates):
        taken = candidates[best - 1]
        return taken.rows, about | {"strength": taken.strength, "share": taken.share}
    table = load_table(context.pair.base, context.pair.layout.input).float()
    return rows_of(plan.roles["input"], context.free, table).to(context.device), about


def _plan(context: Context, plan: Plan, one: Part) -> Plan:
    bias = bias_of(context.pair, plan)
    made = with_rows(plan.roles["input"], context.free, one.rows, bias)
    return replace(plan, roles={**plan.roles, "input": made})
