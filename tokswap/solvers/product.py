"""The product of a sparse matrix and a table, in blocks of columns."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokswap.solvers.entries import row_starts

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows

ROWS_AT_ONCE = 8192
"""Rows that are copied at once, for they are held twice meanwhile."""


def product(
    rows: "SparseRows", table: Tensor, below: Tensor | None, columns_at_once: int
) -> Tensor:
    """Multiply; see :meth:`~tokswap.solvers.sparse.SparseRows.apply`.

    Raises:
        ValueError: If the table does not fit, or ``columns_at_once`` is below 1.
    """
    below = table[:0] if below is None else below.detach()
    height = len(table) + len(below)
    if table.ndim != 2 or height != rows.columns or not table.is_floating_point():
        raise ValueError(
            f"table of {height} rows, shape {tuple(table.shape)} and dtype {table.dtype} for "
            f"{rows.columns} columns; give a floating-point table ({rows.columns}, D)"
        )
    if columns_at_once < 1:
        raise ValueError(f"columns_at_once={columns_at_once} is no block; give at least 1")
    table, device = table.detach(), table.device
    lengths = rows.indptr.diff()
    single = (lengths == 1).nonzero()[:, 0]
    single = single[rows.weights[rows.indptr[single]] == 1]
    mixed = lengths > 0
    mixed[single] = False

    result = table.new_zeros(len(rows), table.shape[1])
    copied = rows.indices[rows.indptr[single]]
    beyond = copied >= len(table)
    for part, first, chosen in ((table, 0, ~beyond), (below, len(table), beyond)):
        places, sources = single[chosen].to(device), (copied[chosen] - first).to(device)
        for start in range(0, len(places), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            result[places[some]] = part.index_select(0, sources[some])
    if not mixed.any():
        return result
    dtype = torch.float64 if table.dtype == torch.float64 else torch.float32
    used = mixed[torch.repeat_interleave(lengths)]
    # Only rows that occur are converted: a few rows of a plan are worth a few of the table.
    occurring, indices = torch.unique(rows.indices[used], return_inverse=True)
    in_table = int((occurring < len(table)).sum())
    sources, indices = occurring.to(device), indices.to(device)
    weights = rows.weights[used].to(device, dtype)
    offsets = row_starts(lengths[mixed]).to(device)
    places = mixed.nonzero()[:, 0].to(device)
    # One buffer for all blocks: fresh memory costs more than what is written into it.
    buffer = table.new_empty(len(sources), min(columns_at_once, table.shape[1]), dtype=dtype)
    for start in range(0, table.shape[1], columns_at_once):
        block = slice(start, start + columns_at_once)
        block_rows = buffer[:, : min(columns_at_once, table.shape[1] - start)]
        for part, first, last, ids in (
            (table, 0, in_table, sources[:in_table]),
            (below, in_table, len(sources), sources[in_table:] - len(table)),
        ):
            block_rows[first:last] = part[:, block].index_select(0, ids)
        mixed_rows = torch.nn.functional.embedding_bag(
            indices,
            block_rows,
            offsets,
            mode="sum",
            per_sample_weights=weights,
            include_last_offset=True,
        )
        result[:, block].index_copy_(0, places, mixed_rows.to(table.dtype))
    return result
