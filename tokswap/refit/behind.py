"""The loss of what stands behind new tokens, which tells how good their rows of the embedding are.

It is that of shared tokens, among the rows that stay: the head's rows of the new tokens are fitted
later and have no part in it.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tokswap.evaluation.losses import Losses
from tokswap.evaluation.score import running
from tokswap.evaluation.windows import Window
from tokswap.refit.states import alike

KindOf = Callable[[int], str | None]
"""Names the kind of a token with a free row; None for another token."""


@torch.no_grad()
def losses_behind(
    model: nn.Module,
    windows: Sequence[Window],
    kind_of: KindOf,
    stays: Tensor,
    name: str,
    advance: Callable[[int], None] = lambda _windows: None,
) -> tuple[Tensor, list[str]]:
    """Read windows.

    Args:
        model: The model with the new vocabulary.
        windows: Windows of its tokens.
        kind_of: Names the kind of a token with a free row.
        stays: (T,) bool, on the model's device, whether a token's row is the base's.
        name: What messages call the model.
        advance: Is told of windows that were read.

    Returns:
        (n,) float64 on the CPU, nats of each token that stays and has a free one before it, and the
        kind of the last of these; in an order that the windows alone decide.

    Raises:
        EvaluationError: If the model cannot be run.
    """
    losses = Losses(model, name)
    parts, kinds = [torch.empty(0, dtype=torch.float64)], list[str | None]()
    for batch in alike(windows, losses):
        with running(name, len(batch), len(batch[0].inputs)):
            nats, asked = _nats(model, losses, batch, stays)
        last = [kind for window in batch for kind in _kinds(window, kind_of)]
        counted = [kind if there else None for kind, there in zip(last, asked, strict=True)]
        parts.append(nats[torch.tensor([kind is not None for kind in counted])])
        kinds += counted
        advance(len(batch))
    return torch.cat(parts), [kind for kind in kinds if kind is not None]


def _nats(
    model: nn.Module, losses: Losses, batch: Sequence[Window], stays: Tensor
) -> tuple[Tensor, list[bool]]:
    """Give the nats of each target among the rows that stay, and whether it is one of them."""
    inputs = torch.tensor([window.inputs for window in batch], device=stays.device)
    targets = torch.tensor([window.targets for window in batch], device=stays.device)
    asked = targets.shape[1]
    logits: Tensor = model(input_ids=inputs, **losses.options(asked)).logits
    logits = logits[:, -asked:].flatten(0, 1).float()
    targets = targets.flatten()
    own = logits.gather(1, targets[:, None])[:, 0]
    nats = logits.masked_fill_(~stays, -torch.inf).logsumexp(1) - own
    return nats.double().cpu(), stays[targets].tolist()


def _kinds(window: Window, kind_of: KindOf) -> Iterator[str | None]:
    """Name, for each target of a window, the kind of the last free token before it."""
    last = None
    for number, token in enumerate(window.inputs, len(window.targets) - len(window.inputs)):
        last = kind_of(token) or last
        if number >= 0:
            yield last


def standard_error(values: Tensor) -> Tensor:
    """Give the standard error of the mean of the last dimension."""
    return values.std(-1, correction=0) / math.sqrt(values.shape[-1])
