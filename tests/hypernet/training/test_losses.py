"""The losses, against torch's own distributions and loops."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence

from tokswap.hypernet.network import Predicted
from tokswap.hypernet.training.losses import (
    chunk_divergences,
    chunk_sums,
    row_distances,
    token_nats,
)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def randn(*shape: int, draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw)


def test_distance_of_tied_rows(draw: torch.Generator) -> None:
    rows, own = randn(5, 4, draw=draw), randn(5, 4, draw=draw)
    found = row_distances(Predicted(rows, None, None), own, None, (2.0, 7.0))
    wanted = [float(((a - b) ** 2).sum()) / 2 for a, b in zip(rows, own, strict=True)]
    assert found.tolist() == pytest.approx(wanted)


def test_distance_of_untied_rows_is_the_mean_of_both(draw: torch.Generator) -> None:
    inputs, outputs, own_in, own_out = (randn(5, 4, draw=draw) for _ in range(4))
    found = row_distances(Predicted(inputs, outputs, None), own_in, own_out, (2.0, 8.0))
    wanted = (inputs - own_in).square().sum(1) / 4 + (outputs - own_out).square().sum(1) / 16
    assert torch.allclose(found, wanted)
    assert row_distances(Predicted(own_in, own_out, None), own_in, own_out).tolist() == [0.0] * 5


def test_nats_of_tokens(draw: torch.Generator) -> None:
    logits = randn(2, 3, 6, draw=draw).to(torch.bfloat16)
    targets = torch.tensor([[0, 5, 2], [1, 1, 3]])
    wanted = torch.tensor([[True, True, False], [False, True, True]])
    found = token_nats(logits, targets, wanted)
    assert found.dtype == torch.float32
    for row in range(2):
        for place in range(3):
            p = logits[row, place].float().softmax(0)[targets[row, place]]
            cost = -math.log(float(p)) if wanted[row, place] else 0.0
            assert float(found[row, place]) == pytest.approx(cost, abs=1e-5)


def test_what_is_not_wanted_has_no_gradient(draw: torch.Generator) -> None:
    logits = randn(1, 3, 6, draw=draw).requires_grad_()
    wanted = torch.tensor([[True, False, True]])
    token_nats(logits, torch.zeros(1, 3, dtype=torch.int64), wanted).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=2).gt(0).tolist() == wanted.tolist()


def test_sums_of_chunks() -> None:
    nats = torch.tensor([[1.0, 2.0, 4.0, 8.0], [16.0, 32.0, 64.0, 128.0]])
    chunks = torch.tensor([[0, 0, 1, -1], [-1, 2, 0, 2]])
    assert chunk_sums(nats, chunks, 3).tolist() == [[3.0, 4.0, 0.0], [64.0, 0.0, 160.0]]


@pytest.mark.parametrize("temperature", [1.0, 3.0, 100.0])
def test_divergence_of_chunks(temperature: float, draw: torch.Generator) -> None:
    nats, given = (
        torch.rand(200, generator=draw, dtype=torch.float64) * 20 + 1e-3 for _ in range(2)
    )
    p, q = ((-x / temperature).exp() for x in (given, nats))
    wanted = temperature * kl_divergence(Bernoulli(p), Bernoulli(q))
    assert torch.allclose(chunk_divergences(nats, given, temperature), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_equal_chunks_have_no_divergence_and_no_gradient(temperature: float) -> None:
    nats = torch.tensor([1e-4, 0.1, 1.0, 10.0, 80.0], requires_grad=True)
    found = chunk_divergences(nats, nats.detach(), temperature)
    found.sum().backward()
    assert found.abs().max() < 1e-4
    assert nats.grad is not None
    assert nats.grad.abs().max() < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_divergence_of_chunks_is_finite_at_extremes(temperature: float) -> None:
    ends = torch.tensor([0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e2, 1e4, 1e6])
    nats, given = (part.flatten() for part in torch.meshgrid(ends, ends, indexing="ij"))
    nats.requires_grad_()
    found = chunk_divergences(nats, given, temperature)
    found.sum().backward()
    assert found.isfinite().all()
    assert (found > -1e-3).all()
    assert nats.grad is not None
    assert nats.grad.isfinite().all()


def test_gradient_of_a_chunk_points_to_the_given_likelihood() -> None:
    nats = torch.tensor([1.0, 5.0], requires_grad=True)
    chunk_divergences(nats, torch.tensor([5.0, 1.0]), 100.0).sum().backward()
    assert nats.grad is not None
    assert nats.grad.sign().tolist() == [-1.0, 1.0]
