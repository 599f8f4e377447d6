"""How the weights are moved: AdamW, its learning rate by the step, its numbers kept as tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.hypernet.training.processes import whole
from tokswap.hypernet.training.recipe import TrainRecipe

NUMBERS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each weight."""


def make_optimizer(network: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Make the optimizer; biases and the weights of norms and rescalers do not decay."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    plain = [p for n, p in trained if _decays(n)]
    free = [p for n, p in trained if not _decays(n)]
    groups: list[dict[str, Any]] = [
        {"params": plain, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)


def _decays(name: str) -> bool:
    module, _, last = name.rpartition(".")
    norm = module.endswith(("LayerNorm", ".ln", "scaler"))
    return last == "weight" and not norm


def rate_at(step: int, recipe: TrainRecipe) -> float:
    """Tell the learning rate of a step.

    It rises while the base's own rows are learned, begins anew from 0 behind that, rises again,
    and falls by a cosine to a share of its highest.
    """
    said, own = recipe.optimizer, recipe.identity_steps
    if step < own:
        return said.identity_rate * (step + 1) / own
    done, left = step - own, recipe.steps - own
    if done < said.warm_up:
        return said.rate * (done + 1) / said.warm_up
    share = (done - said.warm_up) / max(left - said.warm_up, 1)
    return said.rate * (said.least + (1 - said.least) * 0.5 * (1 + math.cos(math.pi * share)))


def numbers_of(optimizer: torch.optim.AdamW, network: nn.Module) -> dict[str, Tensor]:
    """Return what an optimizer remembers, by the names of the weights; all processes must ask."""
    found: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            found |= {f"{kind}.{name}": whole(state[kind]).cpu().contiguous() for kind in NUMBERS}
            found[f"step.{name}"] = state["step"].clone().cpu().reshape(1)
    return found


def restore_numbers(
    optimizer: torch.optim.AdamW, network: nn.Module, kept: Mapping[str, Tensor]
) -> None:
    """Give an optimizer back what it remembered."""
    for name, parameter in network.named_parameters():
        if f"step.{name}" in kept:
            state = {kind: _like(kept[f"{kind}.{name}"], parameter) for kind in NUMBERS}
            optimizer.state[parameter] = {"step": kept[f"step.{name}"][0].clone(), **state}


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Bring a tensor to where a weight is, and deal it out as that is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor.clone()
