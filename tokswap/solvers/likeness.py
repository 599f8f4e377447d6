"""How alike rows are to those that they stand for."""

import torch
from torch import Tensor

FIGURES = ("cosine", "centered_cosine", "relative_error")
"""What :func:`likeness` gives, in this order."""

_ROWS = 1024  # rows that are held in float64 at once


def likeness(found: Tensor, true: Tensor, mean: Tensor) -> Tensor:
    """Compare rows with the true ones, one by one.

    The cosine flatters where all rows share a large common part, for the mean row has it as well;
    the cosine once the mean is taken away says how much of a row's own part was found. It is 0 for
    a row that is the mean.

    Args:
        found: (M, D) floating point.
        true: (M, D), no row all zeros.
        mean: (D,) the common part.

    Returns:
        (M, 3) float64: the cosine, the cosine once the mean is taken away, and the relative error
        |true - found| / |true|.
    """
    blocks = [torch.empty(0, len(FIGURES), dtype=torch.float64)]
    mean = mean.double()
    for start in range(0, len(true), _ROWS):
        a, b = (rows[start : start + _ROWS].double() for rows in (found, true))
        error = (b - a).norm(dim=1) / b.norm(dim=1)
        blocks.append(torch.stack([_cosines(a, b), _cosines(a - mean, b - mean), error], dim=1))
    return torch.cat(blocks)


def quartiles(values: Tensor) -> dict[str, float]:
    """Sum up (M,) numbers, at least one: ``mean``, ``lower`` quartile, ``median``, ``upper``."""
    points = torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)
    lower, median, upper = values.quantile(points).tolist()
    return {"mean": float(values.mean()), "lower": lower, "median": median, "upper": upper}


def _cosines(found: Tensor, true: Tensor) -> Tensor:
    lengths = found.norm(dim=1) * true.norm(dim=1)
    return (found * true).sum(dim=1) / torch.where(lengths > 0, lengths, 1)
