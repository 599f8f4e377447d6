"""How weights are moved: the rate at its corners, what decays, and going on exactly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.hypernet.made import KINDS, settings
from tokswap.hypernet.config import read_config
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.training.optimizer import (
    make_optimizer,
    numbers_of,
    rate_at,
    restore_numbers,
)
from tokswap.hypernet.training.recipe import TrainRecipe, make_train_recipe


def recipe(**said: Any) -> TrainRecipe:
    optimizer = {"rate": 6e-5, "identity_rate": 3e-4, "warm_up": 10, "least": 0.1}
    asked = {"base_model": "b", "out": "o", "identity_steps": 20, "steps": 130, **said}
    return make_train_recipe({**asked, "optimizer": {**optimizer, **said.get("optimizer", {})}})


def test_the_rate_at_its_corners() -> None:
    said = recipe()
    found = [rate_at(step, said) for step in range(130)]
    assert found[0] == pytest.approx(3e-4 / 20)
    assert found[19] == max(found) == pytest.approx(3e-4)
    assert found[20] == pytest.approx(6e-6)  # it begins anew
    assert found[29] == pytest.approx(6e-5)
    assert found[30] == pytest.approx(6e-5)
    assert found[80] == pytest.approx((6e-5 + 6e-6) / 2)  # half of the cosine
    assert found[129] == pytest.approx(6e-6, rel=0.01)
    assert min(found) > 0
    assert found[:20] == sorted(found[:20])
    assert found[20:30] == sorted(found[20:30])
    assert found[30:] == sorted(found[30:], reverse=True)


@pytest.mark.parametrize(
    ("said", "step", "rate"),
    [
        ({"identity_steps": 0, "optimizer": {"warm_up": 0}}, 0, 6e-5),
        ({"identity_steps": 0, "optimizer": {"warm_up": 0, "least": 1.0}}, 129, 6e-5),
        ({"identity_steps": 0, "optimizer": {"warm_up": 1000}}, 129, 6e-5 * 130 / 1000),
        ({"identity_steps": 130}, 129, 3e-4),
        ({"identity_steps": 0, "optimizer": {"warm_up": 130}}, 129, 6e-5),
        ({"identity_steps": 0, "steps": 1, "optimizer": {"warm_up": 0}}, 0, 6e-5),
    ],
)
def test_the_rate_of_odd_schedules(said: dict[str, Any], step: int, rate: float) -> None:
    assert rate_at(step, recipe(**said)) == pytest.approx(rate)


@pytest.fixture
def network() -> Callable[..., Hypernet]:
    def make(kind: str = "untied language", seed: int = 0) -> Hypernet:
        config = read_config(settings(kind), "made")
        return Hypernet(config, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_and_tables_decay(kind: str, network) -> None:
    """Norms, rescalers and biases have one dimension, or one row."""
    made = network(kind)
    plain, free = make_optimizer(made, 0.25).param_groups
    assert (plain["weight_decay"], free["weight_decay"]) == (0.25, 0.0)
    decaying = {id(parameter) for parameter in plain["params"]}
    assert len(decaying) + len(free["params"]) == len(list(made.parameters()))
    for name, parameter in made.named_parameters():
        vector = parameter.dim() == 1 or name.endswith((".w", ".b"))
        assert (id(parameter) in decaying) != vector, name


def test_what_is_frozen_is_not_moved(network) -> None:
    made = network()
    made.in_scaler.requires_grad_(requires_grad=False)
    moved = [p for group in make_optimizer(made, 0.1).param_groups for p in group["params"]]
    assert len(moved) == len(list(made.parameters())) - 2
    assert all(parameter.requires_grad for parameter in moved)


def step(network: Hypernet, optimizer: torch.optim.AdamW, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    source = torch.randn(50, network.config.read, generator=draw)
    predicted = network(torch.randint(0, 50, (8, 3), generator=draw), source, 1)
    optimizer.zero_grad()
    (predicted.inputs.square().sum() + predicted.outputs.square().sum()).backward()
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    optimizer.step()


def test_restored_numbers_give_the_same_next_steps(network) -> None:
    one = network()
    first = make_optimizer(one, 0.1)
    for seed in range(3):
        step(one, first, seed)
    kept = numbers_of(first, one)
    assert all(t.device.type == "cpu" and t.is_contiguous() for t in kept.values())
    other = network(seed=9)
    other.load_state_dict(one.state_dict())
    second = make_optimizer(other, 0.1)
    restore_numbers(second, other, kept)
    for seed in range(3, 6):
        step(one, first, seed)
        step(other, second, seed)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    again = numbers_of(second, other)
    assert again.keys() == kept.keys()
    assert {float(value) for name, value in again.items() if name.startswith("step.")} == {6.0}
    assert all(torch.equal(tensor, numbers_of(first, one)[name]) for name, tensor in again.items())


def test_what_was_kept_stays_as_it_was(network) -> None:
    made = network()
    optimizer = make_optimizer(made, 0.1)
    step(made, optimizer, 0)
    found = numbers_of(optimizer, made)
    kept = {name: tensor.clone() for name, tensor in found.items()}
    restore_numbers(optimizer, made, found)
    step(made, optimizer, 1)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in found.items())


def test_a_new_optimizer_has_no_numbers(network) -> None:
    made = network()
    optimizer = make_optimizer(made, 0.1)
    assert numbers_of(optimizer, made) == {}
    restore_numbers(optimizer, made, {})
    assert not optimizer.state
