"""Long solving in blocks of rows: dealt to the ranks, kept as they come, put together in order.

A block is solved alone and always has the same rows, whatever the memory, the number of ranks and
what an earlier run has left: so the result is the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tokswap.memory import default_budget
from tokswap.progress import bar, note
from tokswap.ranks import Ranks

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024
"""Rows of a block: large enough for a product to be worth it, small enough to be lost."""

Solve = Callable[[int, int], "tuple[Tensor, ...]"]


class Keep(Protocol):
    """Where finished blocks are kept for a run to come."""

    def find(self, key: str, blocks: int) -> dict[int, bytes]:
        """Find what an earlier run has kept of a question, by the number of the block."""

    def damaged(self, number: int) -> None:
        """Hear that a block which was found is of no use."""

    def put(self, key: str, number: int, data: bytes) -> None:
        """Keep a block."""

    def clear(self) -> None:
        """Hear that nothing that was kept is needed any more."""


class Blocks:
    """Solves in blocks, and remembers the answers for the rest of the run.

    Args:
        memory: Bytes that solving may take, where somebody has said so.
        ranks: The processes that the blocks are dealt to.
        keep: Where finished blocks are kept; nowhere without it.
    """

    def __init__(
        self, *, memory: int | None = None, ranks: Ranks | None = None, keep: Keep | None = None
    ) -> None:
        self._memory = memory
        self._ranks = ranks or Ranks()
        self._keep = keep
        self._answers: dict[str, tuple[Tensor, ...]] = {}

    @property
    def ranks(self) -> Ranks:
        """The processes that share the work."""
        return self._ranks

    def memory(self, device: str) -> int:
        """How many bytes solving may take: as was said, or what all ranks have to spare."""
        if self._memory is None:
            own = default_budget(device, self._ranks.beside(device))
            # One figure for all, so that all of them can work or none.
            shared = self._ranks.share(str(own).encode()) if self._ranks.world > 1 else []
            self._memory = min([own, *(int(said) for said in shared)])
        return self._memory

    def finish(self) -> None:
        """Forget what was kept, for the output is there."""
        if self._keep is not None:
            self._keep.clear()

    def has(self, key: str) -> bool:
        """Tell whether the rows of a key were solved in this run; see :meth:`run`."""
        return _with_versions(key) in self._answers

    def run(self, label: str, key: str, count: int, solve: Solve) -> "tuple[Tensor, ...]":
        """Solve rows, block by block.

        Args:
            label: What is being solved, in a few words.
            key: Digest of everything that decides the answer, see :func:`digest`; torch's version
                and the solvers' source are added to it. The same key is solved once in a run.
            count: How many rows there are.
            solve: Solves the rows from ``start`` to ``stop``; returns tensors of ``stop - start``
                rows each, in main memory.

        Returns:
            The tensors of all blocks, each put together in the order of the rows.

        Raises:
            RankError: If another rank fails.
        """
        key = _with_versions(key)
        if key not in self._answers:
            self._ranks.agree(label, f"{key} {count}".encode())
            self._answers[key] = self._solve(label, key, count, solve)
        return self._answers[key]

    def _solve(self, label: str, key: str, count: int, solve: Solve) -> "tuple[Tensor, ...]":
        import torch

        bounds = [(start, min(start + ROWS, count)) for start in range(0, count, ROWS)] or [(0, 0)]
        done = self._before(label, key, bounds)
        left = [number for number in range(len(bounds)) if number not in done]
        ranks = self._ranks
        with bar(label, count, done=sum(_rows(bounds[number]) for number in done)) as advance:
            for start in range(0, len(left), ranks.world):
                turn = left[start : start + ranks.world]
                mine = turn[ranks.rank] if ranks.rank < len(turn) else None
                block = () if mine is None else _checked(solve(*bounds[mine]), bounds[mine])
                if ranks.world == 1 and self._keep is None:
                    done[turn[0]] = block
                else:
                    said = b"" if mine is None else pack(block, key, mine)
                    for number, data in zip(turn, ranks.share(said), strict=False):
                        done[number] = block if number == mine else unpack(data, key, number)
                        if self._keep is not None:
                            self._keep.put(key, number, data)
                for number in turn:
                    advance(_rows(bounds[number]))
        parts = [done[number] for number in range(len(bounds))]
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def _before(
        self, label: str, key: str, bounds: list[tuple[int, int]]
    ) -> "dict[int, tuple[Tensor, ...]]":
        """What an earlier run has finished, which only the first rank may know."""
        found = {} if self._keep is None else self._keep.find(key, len(bounds))
        done = {}
        for number, data in found.items():
            try:
                done[number] = _checked(unpack(data, key, number), bounds[number])
            except ValueError:
                assert self._keep is not None  # noqa: S101 - it has given the block
                self._keep.damaged(number)
        if done:
            note(f"{label}: {len(done)} of {len(bounds)} blocks are there from an earlier run")
        if self._ranks.world > 1:
            own = [json.dumps(sorted(done)).encode(), *(found[number] for number in sorted(done))]
            head, *rest = own
            numbers = json.loads(self._ranks.share(head)[0])
            for place, number in enumerate(numbers):
                data = self._ranks.share(rest[place] if self._ranks.first else b"")[0]
                done[number] = unpack(data, key, number)
        return done


def digest(*parts: "Tensor | str | float | bool | Mapping[str, Any] | None") -> str:
    """Digest tensors (type, shape and bytes) and settings (as JSON), in the order given."""
    import torch

    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        if isinstance(part, torch.Tensor):
            tensor = part.detach().cpu().contiguous()
            found.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        else:
            found.update(json.dumps(part, sort_keys=True).encode())
        found.update(b"\0")
    return found.hexdigest()


def device_kind(device: str) -> str:
    """Name what a device is of, for two kinds round differently; its number is left out."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{kind} {torch.backends.cpu.get_cpu_capability()}" if kind == "cpu" else kind


def pack(block: "tuple[Tensor, ...]", key: str, number: int) -> bytes:
    """Write a block as a safetensors file that says what it is of, and its own digest."""
    from safetensors.torch import save

    said = {"key": key, "block": str(number), "digest": digest(*block)}
    tensors = {str(place): tensor.contiguous() for place, tensor in enumerate(block)}
    return bytes(save(tensors, said))


def unpack(data: bytes, key: str, number: int) -> "tuple[Tensor, ...]":
    """Read a block.

    Raises:
        ValueError: If it is damaged, or of another question.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    said: Mapping[str, str] = {}
    with suppress(ValueError, AttributeError):
        length = int.from_bytes(data[:8], "little")
        said = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if (said.get("key"), said.get("block")) != (key, str(number)):
        raise ValueError(f"block {number} is of another question, or damaged; solve it again")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"block {number} is damaged ({error}); solve it again") from error
    if sorted(tensors) != sorted(str(place) for place in range(len(tensors))):
        raise ValueError(f"block {number} has tensors {sorted(tensors)}; solve it again")
    block = tuple(tensors[str(place)] for place in range(len(tensors)))
    if digest(*block) != said.get("digest"):
        raise ValueError(f"block {number} has other bytes than were kept; solve it again")
    return block


def _with_versions(key: str) -> str:
    import torch

    found = hashlib.blake2b(digest_size=32)
    folder = Path(__file__).parent
    for file in (*sorted((folder / "solvers").glob("*.py")), folder / "methods" / "geometry.py"):
        found.update(file.read_bytes())
    return digest(key, ROWS, torch.__version__, found.hexdigest())


def _rows(bounds: tuple[int, int]) -> int:
    return bounds[1] - bounds[0]


def _checked(block: "tuple[Tensor, ...]", bounds: tuple[int, int]) -> "tuple[Tensor, ...]":
    """Check that a block has as many rows as it should.

    Raises:
        ValueError: If it has not.
    """
    if not block or any(len(tensor) != _rows(bounds) for tensor in block):
        shapes = [tuple(tensor.shape) for tensor in block]
        raise ValueError(f"rows {bounds[0]} to {bounds[1]} came as {shapes}; give one for each")
    return block
