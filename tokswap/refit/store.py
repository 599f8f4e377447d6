"""States of a text in files, a block each: written once, read as often as a solver asks."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from tokswap.errors import RefitError
from tokswap.memory import show_size
from tokswap.solvers.softmax_rows import Positions

SUFFIX = ".safetensors"
HALF_MOST = 3e4
"""Numbers up to which states are kept in half precision, whose end is 65,504."""
Packed = dict[str, Tensor]


class StateStore:
    """Blocks of positions in a folder, in the order of their numbers.

    What fits into memory is kept there too, for a solver reads it dozens of times.

    Args:
        folder: Where the files lie; it is made.
        key: Digest of everything that decides the states; blocks of another key are not found.
        blocks: How many there will be.
        memory: Bytes of main memory that blocks may stay in.
    """

    def __init__(self, folder: Path, key: str, blocks: int, *, memory: int) -> None:
        self.folder, self._key, self._blocks = folder, key[:16], blocks
        self._left = memory
        self._held: dict[int, Packed] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def check_room(self, positions: int, width: int) -> None:
        """Check that the states that are not there yet fit on the disk.

        Args:
            positions: Of all blocks together.
            width: D.

        Raises:
            RefitError: If they do not.
        """
        positions = positions * len(self.left()) // max(self._blocks, 1)
        needed, free = state_bytes(positions, width), shutil.disk_usage(self.folder).free
        if needed > free:
            raise RefitError(
                f"the states of {positions:,} tokens of width {width:,} take {show_size(needed)}, "
                f"and {show_size(free)} are free in {self.folder.parent}; give fewer tokens "
                "(--set refit.tokens=N) or another disk"
            )

    def left(self) -> list[int]:
        """Tell which blocks are not there yet."""
        return [number for number in range(self._blocks) if not self._path(number).is_file()]

    def put(self, number: int, block: Packed) -> None:
        """Keep a block; a file is there whole or not at all.

        Raises:
            RefitError: If it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        partial = self._path(number).with_suffix(".partial")
        try:
            save_file(block, partial)
            partial.replace(self._path(number))
        except (OSError, SafetensorError) as error:  # the latter of a full disk, too
            reason = getattr(error, "strerror", None) or error
            raise RefitError(
                f"{self.folder} cannot be written ({reason}); make room, or give fewer "
                "tokens (--set refit.tokens=N)"
            ) from error

    def get(self, number: int) -> Packed:
        """Read a block.

        Raises:
            RefitError: If it is not there any more, or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if number in self._held:
            return self._held[number]
        try:
            block = load_file(self._path(number))
        except (OSError, SafetensorError) as error:
            self._path(number).unlink(missing_ok=True)
            raise RefitError(
                f"{self._path(number)} cannot be read ({error}); run again, which makes it anew"
            ) from error
        size = sum(tensor.nbytes for tensor in block.values())
        if size <= self._left:
            # What was read is mapped: it would be read from the disk again where memory is short.
            block = self._held[number] = {name: tensor.clone() for name, tensor in block.items()}
            self._left -= size
        return block

    def positions(self, numbers: list[int], device: str) -> Iterator[Positions]:
        """Read blocks as what a solver asks for."""
        for number in numbers:
            block = {name: tensor.to(device) for name, tensor in self.get(number).items()}
            yield Positions(
                block["states"], block["rest"], block["target"].long(), block["weights"]
            )

    def clear(self) -> None:
        """Remove all blocks, those of other keys too, and the folder if nothing else is there."""
        self._held.clear()
        clear_folder(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{self._key}-{number:06}{SUFFIX}"


def clear_folder(folder: Path) -> None:
    """Remove the files of a refit, and the folder if nothing else is there."""
    for path in folder.glob("*"):
        if path.suffix in {SUFFIX, ".partial"}:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def state_bytes(positions: int, width: int) -> int:
    """Tell the bytes of the states of a text in half precision, with what stands beside them."""
    return positions * (2 * width + 12)


def packed(states: Tensor, rest: Tensor, target: Tensor, weights: Tensor) -> Packed:
    """Put a block in the form that is kept: states in half precision, where it can hold them."""
    fits = not len(states) or float(states.abs().max()) < HALF_MOST
    return {
        "states": (states.half() if fits else states.float()).cpu().contiguous(),
        "rest": rest.float().cpu().contiguous(),
        "target": target.to(torch.int32).cpu().contiguous(),
        "weights": weights.float().cpu().contiguous(),
    }
