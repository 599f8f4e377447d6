"""A second model around the body of a loaded one: other vocabulary tensors, all else shared.

The second model is built from a config of its own on the meta device. Every module of it that holds
no vocabulary tensor is then exchanged for the first model's, and the few others get the first
model's tensors, so that nothing but the vocabulary takes memory, and a quantised body is kept.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from tokswap.errors import EvaluationError


def graft(body: nn.Module, crown: nn.Module, tables: Mapping[str, Tensor]) -> nn.Module:
    """Complete a model without weights by another one's body.

    Args:
        body: A loaded model.
        crown: A model of the same class for another vocabulary, on the meta device.
        tables: The vocabulary tensors of the latter by name; several names may share one.

    Returns:
        The second model, in evaluation mode.

    Raises:
        EvaluationError: If one of its tensors is in neither, or has another shape.
    """
    _take(crown, body, "", frozenset(tables))
    shared: dict[int, nn.Parameter] = {}
    for name, table in tables.items():
        module, _, last = name.rpartition(".")
        owner = crown.get_submodule(module)
        expected = getattr(owner, last).shape
        if expected != table.shape:
            raise EvaluationError(
                f"{name} would have the shape {tuple(table.shape)}, and {type(crown).__name__} "
                f"wants {tuple(expected)}; write the model with `tokswap transplant` and measure it"
            )
        if last in owner._buffers:
            owner._buffers[last] = table
        else:
            owner._parameters[last] = shared.setdefault(
                id(table), nn.Parameter(table, requires_grad=False)
            )
    tensors = [*crown.named_parameters(), *crown.named_buffers()]
    if left := [name for name, tensor in tensors if tensor.is_meta]:
        raise EvaluationError(
            f"{type(crown).__name__} has {left[0]}, which depends on the vocabulary and is stored "
            "nowhere; write the model with `tokswap transplant` and measure it"
        )
    return crown.eval()


def _take(crown: nn.Module, body: nn.Module, prefix: str, tables: Collection[str]) -> None:
    """Take over what is the same: modules without vocabulary tensors, and other tensors."""
    for last, child in list(crown._modules.items()):
        name = f"{prefix}{last}"
        old = body._modules.get(last)
        if child is None or old is None:
            continue
        if any(table.startswith(f"{name}.") for table in tables):
            _take(child, old, f"{name}.", tables)
        else:
            crown._modules[last] = old
    held: list[dict[str, Any]] = [crown._parameters, crown._buffers, crown.__dict__]
    of_body: list[dict[str, Any]] = [body._parameters, body._buffers, body.__dict__]
    for tensors, old_tensors in zip(held, of_body, strict=True):
        for last, tensor in tensors.items():
            old_tensor = old_tensors.get(last)
            if not isinstance(tensor, Tensor) or f"{prefix}{last}" in tables:
                continue
            if isinstance(old_tensor, Tensor) and old_tensor.shape == tensor.shape:
                tensors[last] = old_tensor
