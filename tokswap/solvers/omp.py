"""Orthogonal matching pursuit: each target as a combination of a few atoms, found greedily."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from tokswap.solvers.arguments import check_pair, check_settings, check_vectors
from tokswap.solvers.batch import Batch
from tokswap.solvers.looks import ROWS, GramLook, Look, ProductLook
from tokswap.solvers.shortlist import LISTED, Shortlists, first_of_best
from tokswap.solvers.units import normalized

Mode = Literal["auto", "exact", "fast"]
LookKind = Literal["auto", "gram", "product"]

FAST_FROM = 8192
"""Atoms from which shortlists pay."""
# The products of all pairs of atoms pay up to so many atoms for each target, and are exact enough
# for so many steps next to the width.
_PAIRS_PAY, _PAIRS_STEPS = 16, 1 / 4
PAIRS = 2 << 30
"""Bytes that these products may take where nobody says."""
# Targets solved at once, at most: more are no faster on a CPU.
_BATCH = {"exact": 256, "fast": 1024}
_BATCH_GPU = 8192
_MEMORY = 4 << 30
_ROWS_AT_ONCE = 4096


class TooLittleMemoryError(ValueError):
    """The memory given is less than ``least``, the bytes needed for the look that was chosen."""

    def __init__(self, message: str, least: int, look: str) -> None:
        super().__init__(message)
        self.least, self.look = least, look


def orthogonal_matching_pursuit(  # noqa: PLR0913 - each is a choice of its own
    targets: Tensor,
    atoms: Tensor,
    k: int,
    *,
    mode: Mode = "auto",
    normalize: bool = True,
    ridge: float = 0.0,
    rtol: float = 1e-4,
    memory: int | None = None,
    look: LookKind = "auto",
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Approximate each target by a weighted sum of at most ``k`` atoms.

    Each step takes the atom that correlates best with what is left of the target, never one twice,
    and then fits the target anew on all atoms taken so far (least squares). Scores that differ by
    rounding only are ties, and the lowest index wins (in ``fast``, of those listed). A row ends
    early when its residual is small, or when no atom can make it smaller.

    Everything is computed in the targets' dtype (half types: float32), on the targets' device. On a
    CPU a row depends neither on the other rows nor on how many are solved at once.

    Args:
        targets: (M, E) vectors to approximate, floating point, finite.
        atoms: (N, E) vectors to combine, on the targets' device. They need not be of unit norm,
            distinct or independent; zero atoms are never taken.
        k: Atoms per target, at least 1.
        mode: ``exact`` scores all atoms at each step. ``fast`` scores a shortlist of them, and all
            only when the list is spent, in bfloat16 where the device is fast at it: an atom is
            chosen by its exact score, but one outside the list may have had a better one. ``auto``
            is fast for 8,192 atoms or more in float32.
        normalize: Select by the angle to the residual (the textbook's algorithm, which takes the
            atoms at unit norm). ``False`` selects by the raw inner product, so that long atoms win;
            the published figures of OMP transplantation used that.
        ridge: Shrinks the weights w of the unit atoms taken: they minimise |y - A'w|² + ridge |w|²
            for the target y at unit norm; at least 0. What is taken does not depend on it.
        rtol: A residual of at most ``rtol`` times the target's norm ends the row; at least 0, below
            1. Values below the dtype's rounding are raised to it.
        memory: Bytes that may be held beside targets, atoms and results; by default 4 GiB more than
            what does not depend on it. It says how many targets are solved at once.
        look: How a fast pursuit finds its shortlists, which decides a choice here and there:
            ``product`` multiplies what is left of a target by all atoms; ``gram`` holds the
            products of all pairs of atoms, a byte each, which is several times faster where the
            atoms are not too many for the targets (in float32, on a CPU). ``auto`` says by the
            sizes.
        progress: Called now and then with the number of targets just finished.

    Returns:
        ``indices`` (M, k) int64 into ``atoms`` in the order of selection, and ``weights`` (M, k),
        which refer to the atoms as given. Unused slots, all of them behind the used ones, have
        index -1 and weight 0.

    Raises:
        ValueError: If the shapes or devices disagree, an input is not floating point or not finite,
            or ``k``, ``ridge``, ``rtol`` or ``memory`` is out of range.

    Reference:
        Pati, Rezaiifar and Krishnaprasad, "Orthogonal matching pursuit" (Asilomar, 1993). For
        tokens: Goddard and Fernandes Neto (2025), https://arxiv.org/abs/2506.06607.
    """
    check_pair(targets, atoms)
    pursuit = Pursuit(
        atoms.to(torch.float64) if targets.dtype == torch.float64 else atoms,
        k,
        mode=mode,
        normalize=normalize,
        ridge=ridge,
        rtol=rtol,
        memory=memory,
        look=look,
        expected=len(targets),
    )
    return pursuit.solve(targets, progress=progress)


class Pursuit:
    """Atoms made ready for the pursuit of many targets; see :func:`orthogonal_matching_pursuit`.

    Args:
        atoms: (N, E).
        k: Atoms per target.
        mode, normalize, ridge, rtol, memory, look: As there.
        expected: Targets that will be solved, in sum: what pays for many is not made for few.
        pairs: Bytes that the products of all pairs may take for ``auto`` to choose them.

    Attributes:
        k: Atoms per target.
        mode: ``exact`` or ``fast``.
        look: ``product`` or ``gram``; empty for an exact pursuit.
        low: The type of the products that only make shortlists.
        batch: Targets that are solved at once.

    Raises:
        ValueError: If the atoms are not floating point or not finite, or a setting is out of range.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        atoms: Tensor,
        k: int,
        *,
        mode: Mode = "auto",
        normalize: bool = True,
        ridge: float = 0.0,
        rtol: float = 1e-4,
        memory: int | None = None,
        look: LookKind = "auto",
        expected: int = 0,
        pairs: int = PAIRS,
    ) -> None:
        if atoms.ndim != 2:
            raise ValueError(f"atoms have shape {tuple(atoms.shape)}; give (N, E)")
        check_vectors("atoms", atoms)
        check_settings(k, ridge, rtol)
        if mode not in get_args(Mode):
            raise ValueError(f"mode={mode!r} is unknown; give one of {', '.join(get_args(Mode))}")
        self._dtype = torch.float64 if atoms.dtype == torch.float64 else torch.float32
        self._ridge, self._rtol = ridge, max(rtol, 8 * torch.finfo(self._dtype).eps)
        self.k, self._steps = k, min(k, *atoms.shape)  # no more than dimensions are independent
        if mode == "auto":
            large = len(atoms) >= FAST_FROM and self._dtype == torch.float32
            mode = "fast" if large else "exact"
        self.mode: Mode = mode
        # Products of pairs are in float32, also where the processor is faster at bfloat16.
        low = mode == "fast" and look != "gram"
        self.low = _look_type(atoms.device) if low else self._dtype
        self.look = self._choose(look, atoms, expected, pairs) if mode == "fast" else ""
        self.batch = self._fit(atoms, memory)
        self._units, self._norms = normalized(atoms.detach(), self._dtype)
        self._scale = None if normalize else self._norms
        self._looks: Look | None = None
        self._scores = self._units.new_empty(0)

    def solve(
        self, targets: Tensor, *, progress: Callable[[int], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pursue targets (M, E), as :func:`orthogonal_matching_pursuit` says.

        Raises:
            ValueError: If the targets do not fit the atoms, or are not finite.
        """
        check_pair(targets, self._units)
        count = len(targets)
        shape = (count, self.k)
        indices = torch.full(shape, -1, dtype=torch.int64, device=targets.device)
        weights = torch.zeros(shape, dtype=self._dtype, device=targets.device)
        lists = None
        if self.mode == "fast" and self._steps and count:
            most = min(self.batch, count + -count % ROWS)
            lists = Shortlists(self._units, self._scale, self._look(), most, self._steps)
        for start in range(0, count if self._steps else 0, self.batch):
            rows = slice(start, min(start + self.batch, count))
            part, lengths = normalized(targets[rows].detach(), self._dtype)
            padded = torch.nn.functional.pad(part, (0, 0, 0, -len(part) % ROWS))
            batch = Batch(padded, self._steps)
            while batch.step < self._steps and batch.active.any():
                choice, chosen = lists.choose(batch) if lists else self._best(batch)
                batch.take(choice, chosen, rtol=self._rtol)
            # From unit target and unit atoms back to those given.
            picked = batch.picked[: len(part), : batch.step]
            solved = batch.weights(slice(0, len(part)), self._ridge) * lengths[:, None]
            indices[rows, : batch.step] = picked
            weights[rows, : batch.step] = solved / self._norms[picked.clamp_min(0)]
            if progress is not None:
                progress(len(part))
        return indices, weights

    def _look(self) -> Look:
        """Make the way to look at all atoms, which takes a while, when it is needed first."""
        if self._looks is None:
            table = self._units.to(self.low)
            kind = GramLook if self.look == "gram" else ProductLook
            self._looks = kind(table, self._scale)
        return self._looks

    def _best(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Choose the best of all atoms for each row: numbers (B,) and unit vectors (B, E)."""
        shape = len(batch.residual), len(self._units)
        if self._scores.shape != shape:  # the same memory at each step: fresh one costs time
            self._scores = self._units.new_empty(shape)
        scores = torch.mm(batch.residual, self._units.T, out=self._scores).abs_()
        if self._scale is not None:
            scores *= self._scale
        scores.scatter_(1, batch.picked[:, : batch.step].clamp_min(0), -1.0)
        choice = first_of_best(scores)
        return choice, self._units[choice]

    def _choose(self, look: LookKind, atoms: Tensor, expected: int, pairs: int) -> str:
        """Choose the look, by the question alone: the answer must not depend on what is free.

        Raises:
            ValueError: If there is no such look, or not here.
        """
        possible = self.low == self._dtype == torch.float32 and GramLook.works_on(atoms.device)
        if look not in get_args(LookKind) or (look == "gram" and not possible):
            raise ValueError(
                f"look={look!r} cannot be had for {self._dtype} on {atoms.device}; give auto or "
                "product"
            )
        count, width = atoms.shape
        pays = count <= _PAIRS_PAY * expected and self._steps <= _PAIRS_STEPS * width
        if look == "auto":
            look = "gram" if possible and pays and count**2 <= pairs else "product"
        return look

    def _fit(self, atoms: Tensor, memory: int | None) -> int:
        """Say how many targets a budget allows at once.

        Raises:
            TooLittleMemoryError: If it does not allow the least.
        """
        count, width = atoms.shape
        size = self._dtype.itemsize
        fixed = (count + 2 * _ROWS_AT_ONCE) * width * size
        fixed += count * width * self.low.itemsize if self.low != self._dtype else 0
        row = (self._steps + 8) * width + self._steps * (self._steps + 4)
        row += 2 * LISTED * width if self.mode == "fast" else 2 * count
        if self.look == "gram":
            fixed, row = fixed + count**2, row + count
        budget = fixed + _MEMORY if memory is None else memory
        most = _BATCH[self.mode] if atoms.device.type == "cpu" else _BATCH_GPU
        batch: int = (budget - fixed) // (row * size) // ROWS * ROWS
        if batch < ROWS and memory is not None:
            least = fixed + ROWS * row * size
            raise TooLittleMemoryError(
                f"memory={memory} bytes are too few for {count} atoms of width {width} with "
                f"k={self.k}; give at least {least}",
                least,
                self.look,
            )
        return max(min(batch, most), ROWS)


def _look_type(device: torch.device) -> torch.dtype:
    """Choose the type of the product that looks at all atoms: the fastest that is good enough."""
    amx = getattr(torch.cpu, "_is_amx_tile_supported", bool)  # a matrix unit for bfloat16
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and amx()
    return torch.bfloat16 if fast else torch.float32
