"""What the frozen base makes of a text in its own tokens: the states that new rows should lead to.

A window of the donor's tokens is spelt in the base's, new tokens in their pieces. Where the last
piece of a token has been read, the base has read what the token stands for; its state there is the
one that the same model should come to when it reads the token itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.evaluation.reading import Reading
from tokswap.evaluation.windows import Window
from tokswap.refit.head import head_of


class _Stop(Exception):  # noqa: N818 - no error, but the way out of a model
    """Ends a forward pass before the head, whose product is not wanted."""


def body_states(model: nn.Module, inputs: Tensor, name: str) -> Tensor:
    """Run a model without its head.

    Args:
        model: A causal language model.
        inputs: (B, L) ids.
        name: What messages call it.

    Returns:
        (B, L, D) what its head would read.
    """
    found: list[Tensor] = []

    def stop(_module: nn.Module, read: tuple[Any, ...]) -> None:
        found.append(read[0])
        raise _Stop

    hook = head_of(model, name).register_forward_pre_hook(stop)
    try:
        model(input_ids=inputs)
    except _Stop:
        pass
    finally:
        hook.remove()
    return found[0]


@dataclass(frozen=True)
class Lesson:
    """A window as both read it.

    Attributes:
        read: The new model's ids.
        spelt: The base's ids.
        ends: For each id that the new model reads, the place of its last piece.
        first: Place of the first id with a row to be learned; what stands before it is no lesson.
    """

    read: list[int]
    spelt: list[int]
    ends: list[int]
    first: int


def lessons(
    windows: Sequence[Window],
    reading: Reading,
    *,
    starts: tuple[int | None, int | None],
    free: Callable[[int], bool],
    limit: int | None,
) -> list[Lesson]:
    """Spell windows for the base.

    Args:
        windows: Windows of the donor's tokens.
        reading: What the base reads for each of them.
        starts: The donor's token at the start of documents, and the base's.
        free: Whether a token's row is to be learned.
        limit: Positions of the base; what would lie behind them is left out.

    Returns:
        One for each window that holds a token to be learned.
    """
    start, base_start = starts
    ids = reading.ids.tolist()
    found = []
    for window in windows:
        first = next((at for at, token in enumerate(window.inputs) if free(token)), None)
        if first is None:
            continue
        spelt: list[int] = []
        ends: list[int] = []
        for token in window.inputs:
            if token == start and base_start is not None:
                spelt.append(base_start)
            else:
                pieces = reading.pieces[token] if reading.pieces is not None else [token]
                spelt += [ids[piece] for piece in pieces]
            if limit is not None and len(spelt) > limit:
                break
            ends.append(max(len(spelt) - 1, 0))
        if spelt and first < len(ends):
            found.append(Lesson(window.inputs[: len(ends)], spelt[: ends[-1] + 1], ends, first))
    return found


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Put ids in one tensor, zeros behind their ends, which a causal model does not see before."""
    size = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (size - len(row))] for row in rows])


def lesson_mask(batch: Sequence[Lesson]) -> Tensor:
    """Tell which places of a batch are lessons, (B, L) bool."""
    size = max(len(one.read) for one in batch)
    at = torch.arange(size)[None]
    first = torch.tensor([one.first for one in batch])[:, None]
    ends = torch.tensor([len(one.read) for one in batch])[:, None]
    return (at >= first) & (at < ends)


@torch.no_grad()
def taught(base: nn.Module, batch: Sequence[Lesson], name: str, device: torch.device) -> Tensor:
    """Give the base's states where the lessons are, (n, D), in the order of :func:`lesson_mask`."""
    states = body_states(base, padded([one.spelt for one in batch]).to(device), name)
    rows = [states[row, one.ends[one.first :]] for row, one in enumerate(batch)]
    return torch.cat(rows).float()
