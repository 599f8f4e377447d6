"""What a hypernetwork is trained by: four distances, each a sum that is divided by the caller."""

import torch
from torch import Tensor
from torch.nn import functional

from tokswap.hypernet.network import Predicted

LEAST = 1e-6
"""Nats that a chunk costs at least, so that the logarithm of its complement is finite."""


def row_distances(
    predicted: Predicted,
    inputs: Tensor,
    outputs: Tensor | None,
    lengths: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Squared distances of predicted rows to others, the mean of both roles.

    Args:
        predicted: The rows of N tokens.
        inputs: (N, d) what they should be.
        outputs: (N, d), or None where one table serves both roles.
        lengths: What the distances of the embedding's rows and of the head's are divided by.

    Returns:
        (N,).
    """
    found = (predicted.inputs - inputs).square().sum(dim=1) / lengths[0]
    if outputs is None or predicted.outputs is None:
        return found
    return (found + (predicted.outputs - outputs).square().sum(dim=1) / lengths[1]) / 2


def token_nats(logits: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
    """What each token costs, in nats.

    Args:
        logits: (B, P, K).
        targets: (B, P) int64, what should be predicted at each place.
        wanted: (B, P) bool, where something should be.

    Returns:
        (B, P) float32, 0 where nothing is wanted.
    """
    nats = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
    )
    return nats.view(targets.shape).masked_fill(~wanted, 0.0)


def chunk_sums(nats: Tensor, chunks: Tensor, count: int) -> Tensor:
    """Add up what the tokens of each chunk cost.

    Args:
        nats: (B, P).
        chunks: (B, P) int64, the chunk of each token; -1 for none.
        count: C, chunks of a text at most.

    Returns:
        (B, C).
    """
    sums = nats.new_zeros(len(nats), count + 1)
    return sums.scatter_add(1, chunks + 1, nats)[:, 1:]


def chunk_divergences(nats: Tensor, given: Tensor, temperature: float) -> Tensor:
    """How far the likelihoods of chunks are from those that the base gives them.

    With p the base's likelihood of a chunk, q the other one and τ the temperature, that is

        τ · KL( Bernoulli(p^(1/τ)) ‖ Bernoulli(q^(1/τ)) )

    τ itself stands before it because the divergence alone goes with 1/τ.

    Args:
        nats: What each chunk costs, -ln q.
        given: What it costs the base, -ln p.
        temperature: τ.

    Returns:
        One for each chunk, 0 where both are equal.

    Reference:
        Minixhofer, Vulić and Ponti (NeurIPS 2025), https://arxiv.org/abs/2503.20083.
    """
    log_q = -nats.clamp(min=LEAST * temperature) / temperature
    log_p = -given.clamp(min=LEAST * temperature) / temperature
    rest_p, rest_q = -torch.expm1(log_p), -torch.expm1(log_q)  # 1 - p would be too coarse
    apart = log_p.exp() * (log_p - log_q) + rest_p * (rest_p.log() - rest_q.log())
    return temperature * apart
