"""The processes that share a training, as `accelerate launch` and `torchrun` start them.

Each predicts the rows of its part of the tokens and reads its part of the texts. Rows are gathered
and their gradients added up, so that all together take the step that one alone would take.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tokswap.hypernet.network import Hypernet

NOT_THERE = "a training needs {package}, which is not installed; pip install 'tokswap[train]'"


@dataclass(frozen=True, eq=False)
class Processes:
    """The processes, as one of them sees them.

    Attributes:
        accelerator: accelerate's own view.
        shard: Whether they share weights too.
        asked: Where a single one is to compute.
    """

    accelerator: Any
    shard: bool
    asked: str

    @classmethod
    def join(cls, device: str, precision: str, *, shard: bool) -> "Processes":
        """Join the processes that were started with this one.

        Args:
            device: Where to compute; of several that do not on a CPU, each has a device of its own.
            precision: ``float32`` or ``bfloat16``.
            shard: Whether they share weights and the optimizer's numbers.
        """
        from accelerate import Accelerator

        mixed = "bf16" if precision == "bfloat16" else "no"
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
        return cls(accelerator, shard and accelerator.num_processes > 1, device)

    @property
    def rank(self) -> int:
        """The number of this one."""
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this one computes."""
        return torch.device(self.asked) if self.world == 1 else self.accelerator.device

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in the stated precision."""
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def part(self, count: int) -> slice:
        """Tell this one's part of so many things; the first ones get what is over."""
        size, over = divmod(count, self.world)
        first = self.rank * size + min(self.rank, over)
        return slice(first, first + size + (self.rank < over))

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Put the parts of all together, without gradients.

        Args:
            rows: (N', …) this one's part.
            count: N.

        Returns:
            (N, …).
        """
        rows = rows.detach()
        if self.world == 1:
            return rows
        most = -(-count // self.world)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(found, padded.contiguous())
        size, over = divmod(count, self.world)
        return torch.cat([part[: size + (r < over)] for r, part in enumerate(found)])

    def add(self, tensor: Tensor) -> Tensor:
        """Add up what all have, in place."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def any(self, said: bool) -> bool:
        """Tell whether one of them says so."""
        return bool(self.add(torch.tensor(float(said), device=self.device)))

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all; sharded ones have been added up on their way."""
        if self.world == 1 or self.shard:
            return
        there = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in there if p.grad is not None])
        self.add(flat)
        start = 0
        for parameter in there:
            size = parameter.numel()
            parameter.grad = flat[start : start + size].view_as(parameter)
            start += size

    def wait(self) -> None:
        """Wait for the others."""
        self.accelerator.wait_for_everyone()


def shard_both(network: Hypernet, base: nn.Module, device: torch.device) -> None:
    """Let the processes share the weights of a network and of the layers of a base.

    A layer's weights are put together when it computes, and its gradients added up and dealt out
    again. The base's tables stay whole everywhere, for others take their place.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    parts: list[nn.Module] = [network.input_projection, network.output_projection]
    parts += [network.output_projection_out] if network.config.two_heads else []
    for module in [*network.model.encoder.layer, *parts, network]:
        sharded: Any = fully_shard(module, mesh=mesh)
        # A sum, not a mean, for each process has a part of the loss; by what gloo can do too.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    lists = [module for module in base.modules() if isinstance(module, nn.ModuleList)]
    layers: Any = max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))
    for layer in layers:
        fully_shard(layer, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """Put a sharded tensor together; all processes must ask for it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
