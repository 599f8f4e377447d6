"""How far a matching has come, in a file, from which a run that was stopped goes on."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokswap.ranks import Ranks

EVERY = 60.0
"""Seconds between two files: what is lost at most."""


@dataclass(frozen=True, eq=False)
class Reached:
    """Where a matching stands.

    Attributes:
        done: Steps that were taken.
        total: Steps that there are.
        rows: (A, D) float32, the rows.
        first: (A, D) float32, Adam's first moments.
        second: (A, D) float32, its second moments.
    """

    done: int
    total: int
    rows: Tensor
    first: Tensor
    second: Tensor


class MatchProgress:
    """Keeps where a matching stands; the first rank's file is what all go on from.

    Args:
        folder: Where the file lies.
        key: Digest of everything that decides the matching.
        ranks: The processes that share it.
    """

    def __init__(self, folder: Path, key: str, ranks: Ranks) -> None:
        self._path = folder / f"match-{key[:16]}.safetensors"
        self._ranks = ranks
        self._last = time.monotonic()

    def find(self) -> Reached | None:
        """Find where an earlier run has come to."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = b""
        if self._ranks.first:
            with suppress(OSError):
                data = self._path.read_bytes()
        data = self._ranks.share(data)[0]
        if not data:
            return None
        try:
            found = load(data)
            done, total = (int(number) for number in found["steps"])
            return Reached(done, total, found["rows"], found["first"], found["second"])
        except (SafetensorError, KeyError, ValueError):  # damaged: it is begun anew
            return None

    def keep(self, reached: Reached, *, now: bool = False) -> None:
        """Write the file, if the last one is old enough or it is to be now."""
        if not self._ranks.first or not (now or time.monotonic() - self._last >= EVERY):
            return
        from safetensors.torch import save

        tensors = {name: getattr(reached, name) for name in ("rows", "first", "second")}
        data = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        data["steps"] = torch.tensor([reached.done, reached.total])
        partial = self._path.with_suffix(".partial")
        with suppress(OSError):  # a full disk costs the file, not the matching
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(save(data))
            partial.replace(self._path)
        self._last = time.monotonic()
