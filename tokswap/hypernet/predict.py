"""Prediction of many rows: in batches that fit into memory, short tokens beside short ones."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tokswap.errors import MethodError
from tokswap.hypernet.config import HypernetConfig
from tokswap.hypernet.network import Hypernet, Predicted
from tokswap.hypernet.stored import WORDS, stored_shapes
from tokswap.memory import show_size
from tokswap.progress import bar

MOST = 1024
"""Tokens that are predicted at once at most: more would be no faster."""
LIBRARIES = 64 << 20
"""Bytes that the libraries take to compute at all."""


class Predictor:
    """A network and the base's rows, made ready on a device.

    Args:
        network: The network; it stays as it is.
        tables: The base's table, (S, d); of an untied base the embedding's and the head's.
        language: Index of the language, where the network is told one.
        dtype: What to compute in.
        device: Where to.
        memory: Bytes that all of it may take there; without it, as many as it needs.
        batch: Tokens to predict at once at most.

    Raises:
        MethodError: If the memory does not hold the network, the rows and one token.
    """

    def __init__(
        self,
        network: Hypernet,
        tables: Sequence[Tensor],
        *,
        language: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        memory: int | None = None,
        batch: int | None = None,
    ) -> None:
        config = network.config
        standing, each = bytes_needed(config, tables[0].dtype, dtype)
        self.batch = batch or MOST
        if memory is not None:
            self.batch = min(self.batch, (memory - standing) // each)
            if self.batch < 1:
                least = show_size(standing + each)
                raise MethodError(
                    f"a hypernetwork of this size needs {least} at least for its weights and the "
                    f"base's rows, and may take {show_size(memory)}; give --memory {least} or more"
                )
        self.pad = config.pad_token_id
        self._network = _converted(network, dtype, device)
        count = config.original_vocab_size
        # One table needs no copy; of two, the pieces' rows are read side by side.
        source = tables[0] if len(tables) == 1 else torch.cat([t[:count] for t in tables], dim=1)
        if len(source) < count:  # added tokens may have no row (Gemma 3); they are no pieces
            source = functional.pad(source, (0, 0, 0, count - len(source)))
        self._source = source[:count].to(device)
        self._language = language
        self._device = device

    def rows(self, forms: Tensor) -> Predicted:
        """Predict the rows of tokens, as many at a time as the memory holds.

        Args:
            forms: (N, L) int64 surface forms.

        Returns:
            Their rows, in float32 on the CPU.
        """
        found = []
        with torch.inference_mode():
            for start in range(0, max(len(forms), 1), self.batch):
                some = forms[start : start + self.batch].to(self._device)
                found.append(_map(self._network(some, self._source, self._language), _floats))
        return _together(found)


def predict(predictor: Predictor, forms: Tensor, *, label: str = "hypernet") -> Predicted:
    """Predict the rows of N tokens, and show progress.

    Args:
        predictor: The network, ready.
        forms: (N, L) int64 surface forms.
        label: What the progress is of.

    Returns:
        Their rows in the order of the forms, in float32 on the CPU.
    """
    order = by_length(forms, predictor.pad)
    found = []
    with bar(label, len(forms)) as advance:
        for start in range(0, max(len(forms), 1), MOST):
            some = order[start : start + MOST]
            found.append(predictor.rows(forms[some]))
            advance(len(some))
    return in_order(_together(found), order)


def by_length(forms: Tensor, pad: int) -> Tensor:
    """Order tokens so that those of as many pieces stand together: (N,) int64 places."""
    return (forms != pad).sum(dim=1).argsort(stable=True)


def in_order(made: Predicted, order: Tensor) -> Predicted:
    """Put rows that were made in another order back."""
    places = order.argsort()
    return _map(made, lambda rows: rows[places])


@cache
def code_digest() -> str:
    """Digest the code that decides the rows, by which kept ones of an older version are known."""
    found = hashlib.sha256()
    for name in ("network.py", "predict.py", "surface.py"):
        found.update(Path(__file__).with_name(name).read_bytes())
    return found.hexdigest()


def bytes_needed(
    config: HypernetConfig, stored: torch.dtype, dtype: torch.dtype
) -> tuple[int, int]:
    """Tell what prediction takes, about.

    Args:
        config: The network's sizes.
        stored: Type of the base's tables.
        dtype: What is computed in.

    Returns:
        Bytes of the weights, the base's rows and the libraries, and of each token that is predicted
        at once.
    """
    shapes = stored_shapes(config)
    weights = sum(math.prod(shape) for name, shape in shapes.items() if name != WORDS)
    rows = config.original_vocab_size * config.read * stored.itemsize
    width, inner = config.hn_hidden_size, config.hn_intermediate_size
    pieces = config.hn_surface_maxlen + bool(config.languages)
    # Of a piece: its row as it is read and scaled, and what a layer holds at once.
    each = 3 * config.read + 8 * width + 3 * inner + config.heads * pieces
    return (
        weights * dtype.itemsize + rows + LIBRARIES,
        pieces * each * dtype.itemsize + 8 * config.read,
    )


def _converted(network: Hypernet, dtype: torch.dtype, device: str) -> Hypernet:
    """Give the network in another type or elsewhere; what is right already is shared."""
    with torch.device("meta"):
        made = Hypernet(network.config)
    state = network.state_dict().items()
    made.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state}, assign=True)
    return made.eval()


def _map(made: Predicted, work: Callable[[Tensor], Tensor]) -> Predicted:
    outputs, bias = made.outputs, made.bias
    return Predicted(
        work(made.inputs),
        None if outputs is None else work(outputs),
        None if bias is None else work(bias),
    )


def _floats(rows: Tensor) -> Tensor:
    return rows.to("cpu", torch.float32)


def _together(parts: Sequence[Predicted]) -> Predicted:
    first = parts[0]
    if len(parts) == 1:
        return first
    outputs = [part.outputs for part in parts if part.outputs is not None]
    biases = [part.bias for part in parts if part.bias is not None]
    return Predicted(
        torch.cat([part.inputs for part in parts]),
        torch.cat(outputs) if outputs else None,
        torch.cat(biases) if biases else None,
    )
