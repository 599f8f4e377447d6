"""A batch of pursuits: what each target has taken so far, and what is left of it."""

import torch
from torch import Tensor

# After one pass a new direction is orthogonal to the earlier ones but for rounding over `gap`, the
# part of the atom outside their span. Where less than this is outside, it takes a second pass.
_ONE_PASS = 0.3
_AT_ONCE = 64  # rows whose bases are copied at once


class Batch:
    """Targets at one step of their pursuits, each with an orthonormal basis of what it has taken.

    Rows that are finished stay in the batch and take nothing any more.

    Args:
        targets: (B, E) of unit norm, or zero.
        steps: Atoms that a row may take.

    Attributes:
        step: t, the steps made so far.
        residual: (B, E) what is left of each target.
        length: (B,) its norm.
        active: (B,) whether the row goes on.
        picked: (B, steps) the atoms taken, -1 where none.
    """

    def __init__(self, targets: Tensor, steps: int) -> None:
        count, width = targets.shape
        self.step = 0
        self.residual = targets.clone()
        self.length = torch.linalg.vector_norm(targets, dim=1)
        self.active = self.length > 0
        self.picked = torch.full((count, steps), -1, dtype=torch.int64, device=targets.device)
        self._basis = targets.new_zeros((count, steps, width))
        self._triangle = torch.eye(steps, dtype=targets.dtype, device=targets.device)
        self._triangle = self._triangle.repeat(count, 1, 1)
        self._along = targets.new_zeros((count, steps))

    def take(self, choice: Tensor, atoms: Tensor, *, rtol: float) -> None:
        """Add an atom to each active row that it can help; the other rows are finished.

        Args:
            choice: (B,) the atoms' numbers.
            atoms: (B, E) the atoms, of unit norm or zero.
            rtol: A residual of at most this length ends the row.
        """
        step, eps = self.step, torch.finfo(atoms.dtype).eps
        new, overlap = _outside(self._basis[:, :step], atoms)
        gap = torch.linalg.vector_norm(new, dim=1)
        again = ((gap < _ONE_PASS) & self.active).nonzero()[:, 0]
        for start in range(0, len(again) if step else 0, _AT_ONCE):
            some = again[start : start + _AT_ONCE]  # "twice is enough" (Kahan, Parlett)
            new[some], more = _outside(self._basis[some, :step], new[some])
            overlap[some] += more
            gap[some] = torch.linalg.vector_norm(new[some], dim=1)
        # The residual is orthogonal to the basis, so an atom's correlation with it is at most
        # `gap`. If the best atom has next to none, all others correlate as little: none can help,
        # and the weights would be rounding noise over `gap`. (By raw product: none that is not
        # shorter than the best by a factor 1/sqrt(eps).)
        # The second condition: what is left is orthogonal to all atoms, as it is to zero atoms.
        match = (atoms * self.residual).sum(dim=1).abs()
        helped = self.active & (gap > eps**0.5) & (match > 8 * eps * self.length)

        new = torch.where(helped[:, None], new / gap.clamp_min(eps)[:, None], 0)
        move = (new * self.residual).sum(dim=1)
        self.residual -= move[:, None] * new
        self.length = torch.linalg.vector_norm(self.residual, dim=1)
        self.picked[:, step] = torch.where(helped, choice, -1)
        self._basis[:, step] = new
        self._along[:, step] = move
        # A finished row has a column of the identity here and 0 in `along`: weight 0.
        self._triangle[:, :step, step] = torch.where(helped[:, None], overlap, 0)
        self._triangle[:, step, step] = torch.where(helped, gap, 1)
        self.active = helped & (self.length > rtol)
        self.step = step + 1

    def weights(self, rows: Tensor | slice, ridge: float = 0.0) -> Tensor:
        """Solve for the weights w of the unit atoms taken: the least |y - A'w|² + ridge |w|².

        Args:
            rows: Rows of the batch, n of them.
            ridge: At least 0.

        Returns:
            (n, t), 0 where no atom was taken.
        """
        step = self.step
        triangle, along = self._triangle[rows, :step, :step], self._along[rows, :step, None]
        if not ridge:
            solved: Tensor = torch.linalg.solve_triangular(triangle, along, upper=True)
            return solved[:, :, 0]
        # With A' = QR, Q orthonormal, it is the least squares of R over sqrt(ridge) I.
        solved = along.new_empty(along.shape)
        below = ridge**0.5 * torch.eye(step, dtype=along.dtype, device=along.device)
        for start in range(0, len(along), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            both = torch.cat([triangle[some], below.expand(len(along[some]), -1, -1)], dim=1)
            turn, upper = torch.linalg.qr(both)
            known = turn[:, :step].mT @ along[some]
            solved[some] = torch.linalg.solve_triangular(upper, known, upper=True)
        return solved[:, :, 0]


def _outside(basis: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split rows (B, E) by orthonormal bases (B, t, E): what is outside, and the rest's (B, t)."""
    if not basis.shape[1]:
        return rows.clone(), rows.new_zeros(len(rows), 0)
    # Row vectors on the left: with a column on the right, MKL's batched product is 15 times slower.
    overlap = torch.bmm(rows[:, None], basis.mT)
    return torch.baddbmm(rows[:, None], overlap, basis, alpha=-1)[:, 0], overlap[:, 0]
