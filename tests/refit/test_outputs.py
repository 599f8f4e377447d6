"""Rows of the head for several strengths, and the choice among them by held-out text."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tokswap.refit.outputs import Fitted, chosen, fit_rows, held_out_losses
from tokswap.refit.store import StateStore, packed
from tokswap.solvers.softmax_rows import Head

FREE, WIDTH, COUNT = 6, 8, 400


def fitted(strength: float, mean: float, spread: float = 1.0, seed: int = 0) -> Fitted:
    """Gains of one mean, which differ from position to position by so much."""
    gains = torch.randn(1000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gains = (gains - gains.mean()) / gains.std()
    return Fitted(strength, torch.zeros(1), mean + spread * gains, torch.ones(1000).double())


def test_the_strongest_is_chosen_that_is_as_good_as_the_best() -> None:
    strong, good = fitted(100.0, 0.495), fitted(10.0, 0.5, seed=1)
    assert chosen([strong, good]) is strong  # 0.005 apart, of which the error is 0.04
    assert chosen([good, strong]) is strong
    assert chosen([fitted(100.0, 0.2), good]) is good


def test_a_small_difference_counts_where_it_is_the_same_everywhere() -> None:
    """What is compared is position by position: both gain much here and little there."""
    assert getattr(chosen([fitted(100.0, 0.495), fitted(10.0, 0.5)]), "strength", None) == 10.0


def test_where_nothing_helps_nothing_is_chosen() -> None:
    assert chosen([fitted(100.0, -0.2), fitted(10.0, -0.5)]) is None
    assert chosen([fitted(100.0, 0.02), fitted(10.0, 0.01)]) is None  # within the error of 0.03
    assert chosen([fitted(100.0, 0.05)]) is not None
    assert chosen([fitted(100.0, 0.0, 0.0)]) is None


def test_a_weight_is_that_many_positions() -> None:
    gains = torch.tensor([1.0, 4.0], dtype=torch.float64)
    one = Fitted(1.0, torch.zeros(1), gains, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert one.gain == pytest.approx(1.75)


def filled(folder: Path, planted: Tensor, rest: Tensor) -> StateStore:
    """Four blocks of states and targets that are drawn as planted rows would have it."""
    store = StateStore(folder, "k" * 16, 4, memory=0)
    generator = torch.Generator().manual_seed(1)
    for number in range(4):
        states = torch.randn(COUNT, WIDTH, generator=generator).half().float()
        part = (states @ rest.T).logsumexp(1)
        odds = torch.softmax(torch.cat([states @ planted.T, part[:, None]], 1), 1)
        target = torch.multinomial(odds, 1, generator=generator)[:, 0]
        place = torch.where(target < FREE, target, -1)
        store.put(number, packed(states, part, place, torch.ones(COUNT)))
    return store


@pytest.fixture(params=["planted", "as they should be"])
def problem(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bool, StateStore, Tensor]:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(FREE, WIDTH, generator=generator) * 0.4
    rest = torch.randn(10, WIDTH, generator=generator) * 0.4
    wrong = request.param == "planted"
    planted = start + wrong * torch.randn(FREE, WIDTH, generator=generator)
    return wrong, filled(tmp_path / "states", planted, rest), start


def test_rows_are_fitted_where_there_is_something_to_gain(
    problem: tuple[bool, StateStore, Tensor],
) -> None:
    wrong, store, start = problem
    strengths = (300.0, 100.0, 30.0, 10.0)
    limits: dict[str, Any] = {"variance": 0.16, "strengths": strengths, "memory": 1 << 24}
    found = fit_rows(store, (range(3), [3]), start, Head(), **limits)
    held = partial(store.positions, [3], "cpu")
    before, weights = held_out_losses(held, start, Head())
    assert len(before) == len(weights) == COUNT
    for one in found:
        after = held_out_losses(held, one.rows, Head())[0]
        assert one.gain == pytest.approx(float((before - after).mean()), abs=1e-6)
    # The strongest first; and none is left out that could be chosen.
    assert [one.strength for one in found] == list(strengths[-len(found) :])
    every = fit_rows(store, (range(3), [3]), start, Head(), every=True, **limits)
    assert [one.strength for one in every] == list(strengths)
    first, all_of_them = chosen(found), chosen(every)
    assert getattr(first, "strength", None) == getattr(all_of_them, "strength", None)
    if wrong:
        assert first is not None
        assert first.gain > 0.1
        assert len(found) == 2
    else:
        assert first is None
        assert len(found) == len(strengths)
