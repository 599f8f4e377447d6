"""The rescalers, set once before a training so that rows come in and go out at the right size."""

import torch
from torch import Tensor

from tokswap.hypernet.network import SPREAD, Hypernet, Rescaler

LOOKED_AT = 2048
"""Tokens of the base whose predictions tell how large those are as yet."""


@torch.no_grad()
def set_rescalers(network: Hypernet, source: Tensor) -> None:
    """Set a new network's rescalers by the base's rows.

    What is read has the mean 0 and the deviation of the network's own rows, in each dimension;
    what the network predicts as yet has the mean and the deviation of the base's rows. The last
    rescaler, of the head's rows, goes on learning; the others stay.

    Args:
        network: A network with rescalers that have done nothing so far.
        source: (V, n_in) float32, the base's rows.
    """
    config = network.config
    if not config.hn_rescale_embeddings:
        return
    zeros = torch.zeros_like(source[0])
    _match(network.in_scaler, source, zeros, torch.full_like(zeros, SPREAD))
    ids = torch.arange(min(LOOKED_AT, len(source)), device=source.device)
    language = 0 if config.languages else None
    predicted = network(ids[:, None], source, language)
    width = config.n_embd
    inputs = source[:, :width]
    _match(network.scaler, predicted.inputs, inputs.mean(0), inputs.std(0, correction=0))
    trained = [network.in_scaler, network.scaler]
    if predicted.outputs is not None:
        outputs = source[:, width:]
        _match(network.out_scaler, predicted.outputs, outputs.mean(0), outputs.std(0, correction=0))
    for rescaler in trained:
        rescaler.requires_grad_(False)


def _match(rescaler: Rescaler, rows: Tensor, mean: Tensor, deviation: Tensor) -> None:
    """Let a rescaler give rows a mean and a deviation, (width,) each."""
    factor = deviation / (rows.std(0, correction=0) + 1e-8)
    rescaler.w.copy_(factor)
    rescaler.b.copy_(mean - (rows * factor).mean(0))
