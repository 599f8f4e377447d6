"""Rows at unit norm."""

import torch
from torch import Tensor

_ROWS = 4096


def normalized(rows: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return rows (n, E) at unit norm, in a type or their own, and their norms (n,).

    Zero rows stay zero, and have norm 1 here, so that a weight can be divided by it. Beside the
    result, memory holds a block of rows.
    """
    units = torch.empty_like(rows, dtype=dtype or rows.dtype)
    norms = units.new_ones(len(rows))
    for start in range(0, len(rows), _ROWS):
        some = slice(start, start + _ROWS)
        # Through the largest entry: squares of large or small ones leave the type's range.
        part = rows[some].to(units.dtype)
        top = part.abs().amax(dim=1, keepdim=True)
        top[top == 0] = 1
        scaled = part / top
        length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        length[length == 0] = 1
        torch.div(scaled, length, out=units[some])
        norms[some] = (length * top)[:, 0]
    return units, norms


def unit(rows: Tensor) -> Tensor:
    """Return rows (…, E) at unit norm, in their own type; zero rows stay zero."""
    return normalized(rows.reshape(-1, rows.shape[-1]))[0].view(rows.shape)
