"""Entries of a sparse matrix: in order, each place once, within bounds."""

import torch
from torch import Tensor


def canonical(
    rows: Tensor, indices: Tensor, weights: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Bring entries into the form of CSR: sort them, sum equal places, drop zeros.

    Args:
        rows: (n,) int64, the row of each entry.
        indices: (n,) int64, its column.
        weights: (n,) float64.
        shape: (T, S) of the matrix.

    Returns:
        The row starts (T+1,), the columns, the weights in float32, and S.

    Raises:
        ValueError: If a column is out of bounds.
    """
    count, columns = shape
    check_ids(indices, columns, "indices", "columns")  # else they would land in other rows
    places = rows * columns + indices
    if bool((places.diff() > 0).all()):
        # In order already, as what comes of another matrix often is.
        sums = weights.float()
    else:
        places, order = places.sort(stable=True)
        fresh = torch.cat([torch.ones(len(places[:1]), dtype=torch.bool), places.diff() != 0])
        sums = torch.zeros(int(fresh.sum()), dtype=torch.float64)
        sums = sums.index_add_(0, fresh.cumsum(0) - 1, weights[order]).float()
        places = places[fresh]
    if not bool((there := sums != 0).all()):
        places, sums = places[there], sums[there]
    width = max(columns, 1)  # without columns there are no entries to divide
    starts = row_starts((places // width).bincount(minlength=count))
    return starts, places % width, sums, columns


def row_starts(lengths: Tensor) -> Tensor:
    """Turn row lengths (T,) into row starts (T+1,)."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def check_ids(ids: Tensor, bound: int, name: str, kind: str) -> None:
    """Check that ids are int64 from 0 to ``bound`` - 1.

    Raises:
        ValueError: If they are not.
    """
    if ids.dtype != torch.int64:
        raise ValueError(f"{name} have dtype {ids.dtype}; give torch.int64")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < bound:
        raise ValueError(
            f"{name} run from {int(ids.min())} to {int(ids.max())} for {bound} {kind}; give "
            f"numbers from 0 to {bound - 1}"
        )
