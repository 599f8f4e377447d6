"""Random rows that are spread like the rows of a table."""

import math

import torch
from torch import Tensor

# Rows of the table that are held in float64 at once.
_ROWS = 4096


def sample_rows(
    table: Tensor, count: int, *, scale: float = 1.0, generator: torch.Generator
) -> Tensor:
    """Draw rows from the normal distribution with the mean and covariance of a table's rows.

    Mean and covariance are those of the population (divided by S, not S - 1), so one row is enough:
    its covariance is zero, and every sample equals it. Computed in float64, in blocks of rows.

    Args:
        table: (S, D) rows, floating point, finite, with S at least 1.
        count: Rows to draw.
        scale: Factor on the standard deviation, at least 0; 0 gives the mean.
        generator: Source of randomness, on the CPU; the same state gives the same rows.

    Returns:
        (count, D) float32 on the table's device.

    Raises:
        ValueError: If the table is not a matrix of finite floating-point rows, or has none, or
            ``count`` or ``scale`` is negative or not finite.

    Reference:
        Hewitt, "Initializing New Word Embeddings for Pretrained Language Models" (2021),
        https://nlp.stanford.edu/~johnhew/vocab-expansion.html.
    """
    if table.ndim != 2 or not len(table) or not table.is_floating_point():
        raise ValueError(
            f"table has shape {tuple(table.shape)} and dtype {table.dtype}; give floating-point "
            "rows (S, D) with S at least 1"
        )
    if count < 0:
        raise ValueError(f"count={count} is no number of rows; give 0 or more")
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"scale={scale} is no factor; give a finite number, at least 0")
    mean, covariance = _moments(table.detach())
    if not covariance.isfinite().all():
        raise ValueError("table holds NaN or infinite values; leave those rows out")
    # A covariance of fewer than D + 1 rows is singular, which a Cholesky factor would not survive;
    # rounding makes its zero eigenvalues slightly negative.
    values, vectors = torch.linalg.eigh(covariance)
    spread = values.clamp_min(0).sqrt() * scale
    noise = torch.randn(count, table.shape[1], generator=generator, dtype=torch.float64)
    samples = torch.addmm(mean, noise.to(table.device) * spread, vectors.T)
    return samples.float()


def _moments(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and the covariance (D, D) of the rows in float64."""
    width = table.shape[1]
    mean = torch.zeros(width, dtype=torch.float64, device=table.device)
    covariance = torch.zeros(width, width, dtype=torch.float64, device=table.device)
    for start in range(0, len(table), _ROWS):
        mean += table[start : start + _ROWS].double().sum(dim=0)
    mean /= len(table)
    # A second pass over centred rows: E[xx'] - mm' would cancel where the mean is large.
    for start in range(0, len(table), _ROWS):
        centred = table[start : start + _ROWS].double() - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / len(table)
