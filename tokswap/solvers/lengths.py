"""Weighted sums of rows that are as long as rows are, and not shorter as a mean is."""

import torch
from torch import Tensor

from tokswap.solvers.sparse import SparseRows

_ROWS = 8192  # rows that are made at once


def spread_factors(weights: SparseRows, table: Tensor, mean: Tensor, *, most: float) -> Tensor:
    """Tell by how much less sums of rows differ from the mean than the rows themselves do.

        factor = Σ w |b - mean| / |Σ w (b - mean)|

    Args:
        weights: (M, S + 1) over the table's rows and the mean, at least 0.
        table: (S, D) floating point.
        mean: (1, D) in the table's dtype.
        most: The largest factor; sums that all but cancel have no direction to speak of.

    Returns:
        (M,) float64, from 1 to ``most``; 1 for a sum that is the mean.
    """
    apart = [(rows.float() - mean.float()).norm(dim=1) for rows in torch.split(table, _ROWS)]
    lengths = torch.cat([*apart, torch.zeros(1)])[:, None].double()
    factors = [torch.ones(0, dtype=torch.float64)]
    for start in range(0, len(weights), _ROWS):
        part = weights.between(start, min(start + _ROWS, len(weights)))
        full = part.apply(lengths)[:, 0]
        total = part.apply(torch.ones_like(lengths))
        made = part.apply(table, below=mean).double() - total * mean.double()
        short = made.norm(dim=1)
        # What is left by rounding to the table's type is no direction.
        factors.append(torch.where(full > 0, full / short.clamp_min(1e-300), 1.0).clamp(1.0, most))
    return torch.cat(factors)
