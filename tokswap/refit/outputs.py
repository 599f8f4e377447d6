"""The rows of the head, fitted to states: how strong the pull is, held-out text decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tokswap.progress import bar
from tokswap.refit.store import StateStore
from tokswap.solvers.softmax_rows import LOGITS, Effort, Head, SoftmaxRows, Source, chunks, losses

PASSES = 12
"""Readings of all states that one strength takes about, for the bar."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The rows of the head for one strength of the pull.

    Attributes:
        strength: λ.
        rows: (A, D) the rows.
        gains: (n,) nats by which each held-out position is cheaper than by the method's rows.
        weights: (n,) for how many positions each stands.
    """

    strength: float
    rows: Tensor
    gains: Tensor
    weights: Tensor

    @property
    def gain(self) -> float:
        """Nats that a held-out token is cheaper by, the mean."""
        return float((self.gains * self.weights).sum() / self.weights.sum())


def fit_rows(
    store: StateStore,
    blocks: tuple[Sequence[int], Sequence[int]],
    start: Tensor,
    head: Head,
    *,
    variance: float,
    strengths: Sequence[float],
    memory: int,
    every: bool = False,
) -> list[Fitted]:
    """Fit the rows with one strength after the other, as long as held-out text is not settled.

    The two weakest pulls come first, for they are what enough text chooses. Only where a stronger
    one is as good are those beyond it tried.

    Args:
        store: The states.
        blocks: Numbers of the blocks to fit to, and of those that are held out.
        start: (A, D) float32, the method's rows, on the device that computes.
        head: What the head makes of products.
        variance: Of the numbers of the base's rows.
        strengths: The strongest first.
        memory: Bytes that may be taken.
        every: Fit with all of them.

    Returns:
        The fitted ones, the strongest first.
    """
    device = str(start.device)
    fit, held = (partial(store.positions, list(numbers), device) for numbers in blocks)
    each = start.numel() * 4
    numbers = max(len(start), min(LOGITS if device == "cpu" else 16 * LOGITS, memory // 32))
    history = int(min(6, max(2, (memory // 2 // each - 8) // 2)))
    before, weights = held_out_losses(held, start, head, numbers)
    found: list[Fitted] = []
    passes = PASSES * (len(strengths) if every else min(2, len(strengths)))
    with bar("fit output rows", passes) as advance:
        solver = SoftmaxRows(
            fit,
            start,
            head,
            variance=variance,
            effort=Effort(history=history, numbers=numbers),
            advance=_capped(advance, passes),
        )
        for strength in [*strengths[-2:], *strengths[-3::-1]]:
            if len(found) > 1 and not every and chosen(found) not in (None, found[0]):
                break
            rows = solver.solve(strength)
            after, _ = held_out_losses(held, rows, head, numbers)
            one = Fitted(strength, rows, before - after, weights)
            found = sorted([*found, one], key=lambda one: -one.strength)
    return found


def chosen(found: Sequence[Fitted]) -> Fitted | None:
    """Choose among strengths: the strongest that is as good as the best, within a standard error.

    The text of a refit is one domain, and its held-out part is of it too: a pull that is stronger
    than it must be costs nothing there, and keeps rows closer to what serves others.

    Returns:
        None, where none makes held-out text cheaper by more than a standard error.
    """
    best = max(found, key=lambda one: one.gain)
    for one in sorted(found, key=lambda one: -one.strength):
        if best.gain - one.gain <= _error(best.gains - one.gains, best.weights):
            break
    return one if one.gain > _error(one.gains, one.weights) else None


def _error(values: Tensor, weights: Tensor) -> float:
    """Give the standard error of a weighted mean."""
    total = weights.sum()
    mean = (values * weights).sum() / total
    return float((weights * (values - mean)).square().sum().sqrt() / total)


def held_out_losses(
    source: Source, rows: Tensor, head: Head, numbers: int = LOGITS
) -> tuple[Tensor, Tensor]:
    """Give what changes with the rows of the loss of each position, and its weight, (n,) each."""
    values, weights = [], []
    for part in chunks(source, len(rows), numbers):
        values.append(losses(part, rows, head).double().cpu())
        weights.append(part.weights.double().cpu())
    return torch.cat(values), torch.cat(weights)


def _capped(advance: Callable[[int], None], most: int) -> Callable[[int], None]:
    """Keep a bar from running over its end, for the readings are not known before."""
    left = most

    def step(times: int) -> None:
        nonlocal left
        advance(min(times, left))
        left = max(0, left - times)

    return step
