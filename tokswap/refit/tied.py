"""Which fitted rows a base with one table keeps: they are read as well as predicted.

The fit knows the rows as those of a head. As rows of an embedding they lead to other states than
the ones they were fitted to; and rows that were matched as those of an embedding are expected by no
state. So each candidate is tried whole, in the model, on held-out text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tokswap.plan import Plan
from tokswap.progress import bar
from tokswap.refit.context import Context
from tokswap.refit.held_out import held_out_cost
from tokswap.refit.rows import bias_of, with_rows


@dataclass(frozen=True, eq=False)
class Part:
    """Candidate rows.

    Attributes:
        share: How far they go from the rows at the start to those that were found.
        rows: (A, D) the rows.
        strength: λ of the pull, of rows that were fitted as those of a head.
    """

    share: float
    rows: Tensor
    strength: float | None = None

    def said(self) -> dict[str, float]:
        """JSON-ready form."""
        strength = {} if self.strength is None else {"strength": self.strength}
        return {**strength, "share": self.share}


def parts(start: Tensor, found: Tensor, shares: Sequence[float], **said: float) -> list[Part]:
    """Go so far from the rows at the start, (A, D), to those that were found."""
    return [Part(share, start + share * (found - start), **said) for share in shares]


def best_part(
    context: Context, plan: Plan, candidates: Sequence[Part]
) -> tuple[Part | None, dict[str, Any]]:
    """Try candidates in the model.

    Args:
        context: What the refit works on.
        plan: The plan whose rows they take the place of.
        candidates: The rows.

    Returns:
        The best one, None where the plan's own rows are better; and what is to be said.

    Raises:
        EvaluationError: If a model cannot be run.
    """
    costs = []
    with bar("try rows in both roles", 1 + len(candidates)) as advance:
        for tried in (plan, *(_plan(context, plan, one) for one in candidates)):
            costs.append(held_out_cost(context, tried))
            advance(1)
    before, after = costs[0], costs[1:]
    order = sorted(range(len(after)), key=lambda number: after[number].all)
    best = next((number for number in order if after[number].better(before)), None)
    about: dict[str, Any] = {
        "tried": [
            one.said() | {"gain": before.all - cost.all}
            for one, cost in zip(candidates, after, strict=True)
        ],
        "kept": best is not None,
        # The model as a whole is what has just been read.
        "whole": before.to(after[order[0] if best is None else best]),
    }
    if best is None:
        return None, about | {"gain": 0.0}
    taken = candidates[best]
    return taken, about | taken.said() | {"gain": before.all - after[best].all}


def _plan(context: Context, plan: Plan, one: Part) -> Plan:
    bias = bias_of(context.pair, plan)
    made = with_rows(plan.roles["input"], context.free, one.rows, bias)
    return replace(plan, roles={**plan.roles, "input": made})
