"""What a model does between the states that its head reads and its logits, found by looking.

No table of architectures: the model is run once, the head's input, its product and the logits are
compared, and what is no product, factor or soft cap is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.errors import RefitError

CLOSE = 2e-3
"""Part of the logits' size by which they may be off, which half precision takes."""


@dataclass(frozen=True, eq=False)
class HeadForm:
    """``logits = cap · tanh((U h + b) · scale / cap)``, or ``(U h + b) · scale`` without a cap.

    Attributes:
        scale: The factor.
        cap: The soft cap, or None.
        bias: (T,) b, or None.
    """

    scale: float
    cap: float | None
    bias: Tensor | None


def head_of(model: nn.Module, name: str) -> nn.Module:
    """Return the module that makes logits of states.

    Raises:
        RefitError: If the model has none with rows.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    if head is None or not isinstance(getattr(head, "weight", None), Tensor):
        raise RefitError(
            f"{name} has no output rows that transformers knows of; leave the refit out"
        )
    return head  # type: ignore[no-any-return]


@contextmanager
def caught(head: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Catch what a head reads and makes in the body of the block, as ``states`` and ``products``.

    Yields:
        What was caught last.
    """
    found: dict[str, Tensor] = {}

    def catch(_module: nn.Module, read: tuple[Any, ...], made: Tensor) -> None:
        found["states"], found["products"] = read[0], made

    hook = head.register_forward_hook(catch)
    try:
        yield found
    finally:
        hook.remove()


@torch.no_grad()
def find_form(model: nn.Module, inputs: Tensor, name: str) -> HeadForm:
    """Find what a model does with the products of states and rows.

    Args:
        model: A causal language model.
        inputs: (B, L) ids to try it on.
        name: What messages call it.

    Raises:
        RefitError: If it does something else than scaling and capping.
    """
    head = head_of(model, name)
    with caught(head) as found:
        logits: Tensor = model(input_ids=inputs).logits
    if not found:
        raise RefitError(
            f"{name} does not use its output rows as transformers calls them; leave the refit out"
        )
    states, products = found["states"].flatten(0, -2), found["products"].flatten(0, -2)
    made, wanted = products.double(), logits.flatten(0, -2).double()
    bias = getattr(head, "bias", None)
    own = torch.nn.functional.linear(states, head.weight, bias).double()  # type: ignore[arg-type]
    size = made.abs().mean().clamp_min(1e-30)
    if own.shape != made.shape or float((own - made).abs().mean() / size) > CLOSE:
        raise RefitError(
            f"the head of {name} ({type(head).__name__}) is no product of rows and states; leave "
            "the refit out"
        )
    for cap in [None, *_caps(getattr(model, "config", None))]:
        raw = (
            wanted if cap is None else cap * torch.atanh((wanted / cap).clamp(-1 + 1e-9, 1 - 1e-9))
        )
        scale = float((raw * made).sum() / (made * made).sum().clamp_min(1e-30))
        again = made * scale if cap is None else cap * torch.tanh(made * scale / cap)
        if float((again - wanted).abs().mean() / wanted.abs().mean().clamp_min(1e-30)) < CLOSE:
            exact = 1.0 if abs(scale - 1) < 1e-4 else scale
            plain = None if bias is None else bias.detach()
            return HeadForm(exact, cap, plain)
    raise RefitError(
        f"{name} changes its logits behind the head in a way that a refit does not know; leave it "
        "out"
    )


def _caps(config: Any) -> list[float]:
    """List the numbers that a config calls a soft cap of the logits."""
    levels = [config, getattr(config, "text_config", None)]
    said = [
        value
        for level in levels
        if level is not None
        for key, value in vars(level).items()
        if "cap" in key and "logit" in key and isinstance(value, int | float) and value > 0
    ]
    return list(dict.fromkeys(float(value) for value in said))
