"""What held-out text costs in the whole model, that which the base wrote apart.

The text of a refit is of one domain, as a rule. What the base writes itself is of all that it
knows, so it stands for the others: where it becomes dearer, rows are not kept either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

from tokswap.evaluation.losses import Losses
from tokswap.evaluation.windows import batches
from tokswap.plan import Plan
from tokswap.refit.context import Context
from tokswap.refit.states import BATCH_TOKENS

SPILL = 0.1
"""What other text may lose, as a part of what is gained: every row that is expected more often
takes a little from all others."""


@dataclass(frozen=True)
class Cost:
    """Nats of a held-out token, the mean.

    Attributes:
        all: Of all held-out text.
        own: Of that which the base wrote; None without such.
        windows: Nats of each window that the base wrote, by which chance is told from change.
    """

    all: float
    own: float | None = None
    windows: tuple[float, ...] = ()

    def to(self, after: "Cost") -> dict[str, Any]:
        """Say what has become of it, JSON-ready, and whether it is better and so to be kept."""
        said: dict[str, Any] = {"before": self.all, "after": after.all}
        if self.own is not None:
            said["own"] = {"before": self.own, "after": after.own}
        return said | {"kept": after.better(self)}

    def better(self, before: "Cost") -> bool:
        """Tell whether all text is cheaper than before, and the base's own no dearer.

        Dearer is what is so by more than a standard error, window by window, and by more than
        :data:`SPILL` of what all text has gained.
        """
        gain = before.all - self.all
        if self.own is None or before.own is None:
            return gain > 0
        apart = [new - old for new, old in zip(self.windows, before.windows, strict=True)]
        error = stdev(apart) * len(apart) ** 0.5 if len(apart) > 1 else 0.0
        by_chance = sum(apart) <= error
        return gain > 0 and (by_chance or self.own - before.own <= SPILL * gain)


def joined(steps: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Say what has become of held-out text in steps that each went on from the kept ones.

    Args:
        steps: What :meth:`Cost.to` says of each; None of one that has read none.

    Returns:
        The same of all together, under ``whole``; empty where none has read any.
    """
    said = [step for step in steps if step]
    if not said:
        return {}
    kept = [step for step in said if step["kept"]]
    first, last = said[0], kept[-1] if kept else said[0]
    found = {**last, "before": first["before"]}
    if "own" in last:
        found["own"] = {"before": first["own"]["before"], "after": last["own"]["after"]}
    return {"whole": found}


def held_out_cost(context: Context, plan: Plan) -> Cost:
    """Read the held-out text with a plan's rows in the model.

    Raises:
        EvaluationError: If the model cannot be run.
    """
    losses = Losses(context.swapped.model(plan), context.name)
    held = context.cut.held_out
    nats, count = [0.0] * len(held), 0

    def size(inputs: int, targets: int) -> int:
        return losses.batch_size(inputs, targets, BATCH_TOKENS)

    for batch in batches(enumerate(held), size):
        found = losses.of([window for _, window in batch]).reshape(len(batch), -1).double()
        count += found.numel()
        for (number, _), each in zip(batch, found.sum(1).tolist(), strict=True):
            nats[number] = each
    given = len(held) - context.cut.own
    whole, own = sum(nats) / max(count, 1), nats[given:]
    tokens = sum(len(window.targets) for window in held[given:])
    return Cost(whole, sum(own) / tokens, tuple(own)) if own and given else Cost(whole)
