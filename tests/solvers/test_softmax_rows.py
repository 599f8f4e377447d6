"""Softmax regression on some of the rows, beside scipy and by what must not change it."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from tokswap.solvers.softmax_rows import Effort, Head, Positions, SoftmaxRows

ROWS, FREE, WIDTH, COUNT = 12, 5, 6, 400
VARIANCE = 0.5
EXACT = Effort(iterations=200, tolerance=1e-9)


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """States, all rows of which the first ``FREE`` are free, and targets that other rows like."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(COUNT, WIDTH, generator=generator) + 0.5
    rows = torch.randn(ROWS, WIDTH, generator=generator) * 0.7
    planted = rows + 0.8 * torch.randn(ROWS, WIDTH, generator=generator)
    odds = torch.softmax(states @ planted.T, 1)
    return states, rows, torch.multinomial(odds, 1, generator=generator)[:, 0]


def positions(
    states: Tensor,
    rows: Tensor,
    target: Tensor,
    *,
    head: Head | None = None,
    weights: Tensor | None = None,
    size: int = COUNT,
) -> Iterator[Positions]:
    """Positions as a solver reads them, so many at a time."""
    plain = Head(cap=head.cap if head else None)
    rest = plain.logits(states, rows[FREE:]).logsumexp(1)
    place = torch.where(target < FREE, target, -1)
    weights = torch.ones(len(states)) if weights is None else weights
    for at in range(0, len(states), size):
        part = slice(at, at + size)
        yield Positions(states[part], rest[part], place[part], weights[part])


def solved(
    strength: float = 2.0, *, head: Head | None = None, start: Tensor | None = None, **said: object
) -> Tensor:
    """The free rows, to the end of the solver's precision."""
    states, rows, target = problem()
    head = head or Head()
    source = partial(positions, states, rows, target, head=head, **said)  # type: ignore[arg-type]
    first = rows[:FREE] if start is None else start
    exact = {"effort": EXACT}
    return SoftmaxRows(source, first, head, variance=VARIANCE, **exact).solve(strength)  # type: ignore[arg-type]


def by_scipy(strength: float, bias: Tensor | None = None, cap: float | None = None) -> Tensor:
    """The same by another solver, in float64, from the formula."""
    states, rows, target = (part.double().numpy() for part in problem())
    target = target.astype(int)
    start = rows[:FREE].copy()
    add = np.zeros(ROWS)
    add[:FREE] = 0 if bias is None else bias.numpy()

    def value(flat: np.ndarray) -> float:
        table = rows.copy()
        table[:FREE] = flat.reshape(FREE, WIDTH)
        logits = states @ table.T + add
        logits = logits if cap is None else cap * np.tanh(logits / cap)
        lost = -log_softmax(logits, axis=1)[np.arange(COUNT), target].sum()
        pull = ((table[:FREE] - start) ** 2).sum() * strength / (2 * VARIANCE)
        return float(lost + pull)

    found = minimize(value, start.ravel(), method="BFGS", options={"gtol": 1e-5})
    return torch.from_numpy(found.x.reshape(FREE, WIDTH)).float()


@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_it_finds_what_scipy_finds(strength: float) -> None:
    assert torch.allclose(solved(strength), by_scipy(strength), atol=2e-3)


def test_bias_and_soft_cap_are_of_the_problem() -> None:
    bias = torch.tensor([0.5, -1.0, 0.0, 2.0, -0.3])
    assert torch.allclose(solved(head=Head(bias)), by_scipy(2.0, bias), atol=2e-3)
    capped = solved(head=Head(bias, 3.0))
    assert torch.allclose(capped, by_scipy(2.0, bias, 3.0), atol=5e-3)
    assert not torch.allclose(capped, solved(head=Head(bias)), atol=5e-2)


def test_a_strong_pull_leaves_the_rows_where_they_are() -> None:
    _, rows, _ = problem()
    assert torch.allclose(solved(1e7), rows[:FREE], atol=1e-3)


def test_expected_and_counted_targets_meet_without_a_pull() -> None:
    """Where nothing pulls, the states under a row's targets sum up to what its odds expect."""
    states, rows, target = problem()
    part = next(positions(states, rows, target))
    found = solved(1e-4)
    logits = torch.cat([states @ found.T, part.rest[:, None]], 1)
    odds = torch.softmax(logits, 1)[:, :FREE]
    hits = torch.nn.functional.one_hot(target.clamp_max(FREE), FREE + 1)[:, :FREE].float()
    assert torch.allclose(odds.T @ states, hits.T @ states, atol=0.05)


def test_blocks_and_chunks_change_nothing() -> None:
    whole = solved()
    assert torch.allclose(solved(size=37), whole, atol=2e-3)


def test_a_weight_is_a_repetition() -> None:
    states, rows, target = problem()
    twice = torch.ones(COUNT)
    twice[:100] = 2
    again = torch.cat([states, states[:100]]), rows, torch.cat([target, target[:100]])
    exact = {"variance": VARIANCE, "effort": EXACT}
    weighted, repeated = (
        SoftmaxRows(source, rows[:FREE], Head(), **exact).solve(2.0)  # type: ignore[arg-type]
        for source in (
            partial(positions, states, rows, target, weights=twice),
            partial(positions, *again),
        )
    )
    assert torch.allclose(weighted, repeated, atol=1e-3)


def test_the_measure_of_rows_and_states_does_not_matter() -> None:
    """States ten times as long and rows a tenth give the same logits, and the same answer."""
    states, rows, target = problem()
    exact = {"effort": EXACT}
    source = partial(positions, states * 10, rows / 10, target)
    made = SoftmaxRows(source, rows[:FREE] / 10, Head(), variance=VARIANCE / 100, **exact)  # type: ignore[arg-type]
    assert torch.allclose(made.solve(2.0) * 10, solved(), atol=2e-3)


def test_a_weaker_pull_goes_on_from_a_stronger_one_to_the_same_place() -> None:
    states, rows, target = problem()
    source = partial(positions, states, rows, target)
    exact = {"effort": EXACT}
    one = SoftmaxRows(source, rows[:FREE], Head(), variance=VARIANCE, **exact)  # type: ignore[arg-type]
    one.solve(50.0)
    assert torch.allclose(one.solve(2.0), solved(), atol=2e-3)
