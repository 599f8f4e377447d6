"""Shortlists: the few atoms that come into question for a residual, found by a look at all of them.

A look at all N atoms costs a product with the whole table. A pursuit takes from the residual one
direction a step, which changes most scores little, so the atoms that scored best stay the best for
several steps. What was left out scored below the list's threshold: while the best of the list is
well above that, it is, but for the drift of the others, the best of all.
"""

import torch
from torch import Tensor

from tokswap.solvers.batch import Batch
from tokswap.solvers.looks import Look

LISTED = 64
"""Atoms in a shortlist."""
# A best score below the threshold calls for a new look. One a little above it does, too, where part
# of the residual has gone since the last look: with it, the scores of the atoms left out have
# changed, and more so where the steps are many for the dimensions.
_DRIFT = 4.0
# Lists that are filled at once, in memory that is used again: on a CPU so that it stays in cache.
_LISTS = {"cpu": 32}


class Shortlists:
    """The shortlists of a batch, with the atoms that are in them.

    A list serves until its best score falls to the threshold, which no atom outside it had passed.

    Args:
        units: (N, E) atoms of unit norm, or zero.
        scale: (N,) factors on the scores, or None.
        look: Finds the best of all atoms.
        rows: B, rows of a batch, at most.
        steps: Atoms that a row may take.
    """

    def __init__(
        self, units: Tensor, scale: Tensor | None, look: Look, rows: int, steps: int
    ) -> None:
        count = min(LISTED, len(units))
        self._units, self._scale, self._look = units, scale, look
        self._listed = torch.zeros((rows, count), dtype=torch.int64, device=units.device)
        self._atoms = units.new_zeros((rows, count, units.shape[1]))
        at_once = min(_LISTS.get(units.device.type, 1024), rows)
        self._space = units.new_empty((at_once, count, units.shape[1]))
        self._taken = torch.zeros((rows, count), dtype=torch.bool, device=units.device)
        self._threshold = units.new_zeros((rows,))
        self._length = units.new_ones((rows,))
        self._typical = 1.0 if scale is None else float(scale.median())
        self._drift = _DRIFT * steps / units.shape[1]

    def choose(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Choose the best atom of each row's list, after a new look where the list is spent.

        Returns:
            The atoms' numbers (B,) and the atoms (B, E).
        """
        rows, step = len(batch.residual), batch.step
        if step:
            every = slice(0, rows)
            scores = self._scores(batch.residual, self._atoms[every], every)
            best = scores.amax(dim=1)
            nothing = torch.finfo(scores.dtype).eps ** 0.5 * self._typical
            due = best <= nothing * batch.length
            gone = (1 - (batch.length / self._length[every]).square()).clamp_min(0).sqrt()
            due |= best < self._threshold[every] * (1 + self._drift * gone)
            due &= batch.active
        else:
            self._look.begin(batch)
            scores = batch.residual.new_zeros((rows, self._listed.shape[1]))
            due = batch.active
        if len(numbers := due.nonzero()[:, 0]):
            self._fill(batch, numbers, scores)
        slot = first_of_best(scores)
        numbers = torch.arange(rows, device=slot.device)
        self._taken[numbers, slot] = True
        return self._listed[numbers, slot], self._atoms[numbers, slot]

    def _fill(self, batch: Batch, rows: Tensor, scores: Tensor) -> None:
        """Fill the lists of some rows anew, and their scores in the list."""
        listed, least = self._look.best(batch, rows, self._listed.shape[1])
        self._listed[rows] = listed
        left_out = listed.shape[1] < len(self._units)
        self._threshold[rows] = least.to(self._threshold.dtype) * left_out
        self._length[rows] = batch.length[rows]
        width = self._atoms.shape[2]
        for start in range(0, len(rows), len(self._space)):
            some = rows[start : start + len(self._space)]
            listed, space = self._listed[some], self._space[: len(some)]
            torch.index_select(self._units, 0, listed.view(-1), out=space.view(-1, width))
            self._atoms.index_copy_(0, some, space)
            picked = batch.picked[some, None, : batch.step]
            self._taken[some] = (listed[:, :, None] == picked).any(dim=2)
            scores[some] = self._scores(batch.residual[some], space, some)

    def _scores(self, residual: Tensor, atoms: Tensor, rows: Tensor | slice) -> Tensor:
        """Score the lists of some rows exactly, (n, c); -1 for atoms that the row has taken."""
        scores = torch.bmm(residual[:, None], atoms.mT)[:, 0].abs_()
        if self._scale is not None:
            scores *= self._scale[self._listed[rows]]
        return scores.masked_fill_(self._taken[rows], -1.0)


def first_of_best(scores: Tensor) -> Tensor:
    """Give the first place of each row's best score; what differs by rounding only is equal."""
    best = scores.amax(dim=1, keepdim=True) * (1 - 16 * torch.finfo(scores.dtype).eps)
    return torch.ge(scores, best).view(torch.uint8).argmax(dim=1)
