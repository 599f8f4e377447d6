"""A sparse matrix whose rows say how to mix the rows of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokswap.solvers.entries import canonical, check_ids, row_starts
from tokswap.solvers.product import product


@dataclass(frozen=True, eq=False)
class SparseRows:
    """T sparse rows over S columns, in compressed form (CSR), on the CPU.

    The form is canonical: the columns of a row ascend, each occurs once, and no weight is zero. The
    class methods bring their input into that form (weights of a column that occurs twice in a row
    are summed in float64); the constructor only checks it.

    Attributes:
        indptr: (T+1,) int64; row i has the entries ``indptr[i]`` to ``indptr[i + 1]``.
        indices: (nnz,) int64 columns, from 0 to S - 1.
        weights: (nnz,) float32, finite and not zero.
        columns: S, the number of columns.

    Raises:
        ValueError: If shapes, dtypes, devices or bounds are wrong, or the form is not canonical.
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor
    columns: int

    def __post_init__(self) -> None:
        for name, dtype in (("indptr", torch.int64), ("indices", torch.int64), ("weights", None)):
            tensor, wanted = getattr(self, name), dtype or torch.float32
            if tensor.ndim != 1 or tensor.dtype != wanted or tensor.device.type != "cpu":
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, dtype {tensor.dtype} and device "
                    f"{tensor.device}; give one dimension of {wanted} on the CPU"
                )
        steps = self.indptr.diff()
        ends = [*self.indptr[:1].tolist(), *self.indptr[-1:].tolist()]
        if ends != [0, len(self.indices)] or (steps < 0).any():
            raise ValueError(
                f"indptr runs from and to {ends} for {len(self.indices)} indices; give row starts "
                "that ascend from 0 to the number of indices"
            )
        if len(self.weights) != len(self.indices):
            raise ValueError(
                f"{len(self.weights)} weights for {len(self.indices)} indices; give one for each"
            )
        check_ids(self.indices, self.columns, "indices", "columns")
        if not self.weights.isfinite().all():
            raise ValueError("weights hold NaN, or values beyond float32; give finite weights")
        same_row = self._row_numbers().diff() == 0
        if (self.weights == 0).any() or (same_row & (self.indices.diff() <= 0)).any():
            raise ValueError(
                "rows hold zero weights, or columns that do not ascend; build them with from_lists "
                "or from_padded"
            )

    @classmethod
    def from_lists(
        cls, rows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], columns: int
    ) -> "SparseRows":
        """Build from the columns and the weights of each row, in any order.

        Raises:
            ValueError: If the lengths differ, a column is out of bounds or a weight not finite.
        """
        lengths = [len(row) for row in rows]
        given = [len(row) for row in weights]
        if lengths != given:
            raise ValueError(
                f"{len(rows)} rows with {sum(lengths)} columns and {len(weights)} rows with "
                f"{sum(given)} weights do not fit row by row; give one weight for each column"
            )
        return SparseRows(
            *canonical(
                torch.repeat_interleave(torch.tensor(lengths, dtype=torch.int64)),
                torch.tensor([i for row in rows for i in row], dtype=torch.int64),
                torch.tensor([w for row in weights for w in row], dtype=torch.float64),
                (len(rows), columns),
            )
        )

    @classmethod
    def from_padded(cls, indices: Tensor, weights: Tensor, columns: int) -> "SparseRows":
        """Build from (M, k) columns, with -1 for unused slots, and (M, k) weights.

        Raises:
            ValueError: If the shapes differ, a column is out of bounds or a weight not finite.
        """
        if indices.ndim != 2 or indices.shape != weights.shape:
            raise ValueError(
                f"indices of shape {tuple(indices.shape)} and weights of shape "
                f"{tuple(weights.shape)} do not fit; give both as (M, k)"
            )
        indices = indices.detach().cpu()
        rows, slots = (indices != -1).nonzero(as_tuple=True)
        values = weights.detach().cpu().double()
        return SparseRows(
            *canonical(rows, indices[rows, slots], values[rows, slots], (len(indices), columns))
        )

    @classmethod
    def selection(cls, ids: Tensor, columns: int) -> "SparseRows":
        """Build rows that each copy one column: (T,) ids, with -1 for an empty row."""
        return cls.from_padded(ids[:, None], torch.ones(len(ids), 1), columns)

    @classmethod
    def mean_of(cls, ids: Sequence[int], columns: int) -> "SparseRows":
        """Build the one row that is the mean of some columns; an empty one for none."""
        return cls.from_lists([ids], [[1.0 / max(len(ids), 1)] * len(ids)], columns)

    @classmethod
    def concatenate(cls, parts: Sequence["SparseRows"]) -> "SparseRows":
        """Put matrices with the same columns below each other.

        Raises:
            ValueError: If there is none, or the numbers of columns differ.
        """
        widths = sorted({part.columns for part in parts})
        if len(widths) != 1:
            raise ValueError(f"parts have {widths} columns; give parts with the same columns")
        lengths = torch.cat([part.indptr.diff() for part in parts])
        return cls(
            row_starts(lengths),
            torch.cat([part.indices for part in parts]),
            torch.cat([part.weights for part in parts]),
            widths[0],
        )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> list[tuple[int, float]]:
        """List the columns of row ``i`` with their weights.

        Raises:
            ValueError: If there is no such row.
        """
        if not 0 <= i < len(self):
            raise ValueError(f"row {i} of {len(self)} rows; give 0 <= i < {len(self)}")
        entries = slice(int(self.indptr[i]), int(self.indptr[i + 1]))
        return list(
            zip(self.indices[entries].tolist(), self.weights[entries].tolist(), strict=True)
        )

    def between(self, start: int, stop: int) -> "SparseRows":
        """Return the rows from ``start`` up to ``stop``, without a copy of their entries.

        Raises:
            ValueError: If there are no such rows.
        """
        if not 0 <= start <= stop <= len(self):
            raise ValueError(
                f"rows {start} to {stop} of {len(self)}; give 0 <= start <= stop <= {len(self)}"
            )
        starts = self.indptr[start : stop + 1]
        entries = slice(int(starts[0]), int(starts[-1]))
        return SparseRows(
            starts - starts[0], self.indices[entries], self.weights[entries], self.columns
        )

    def take(self, ids: Tensor) -> "SparseRows":
        """Return some rows, (n,) ids, in that order; a row may be taken several times.

        Raises:
            ValueError: If there are no such rows.
        """
        check_ids(ids, len(self), "ids", "rows")
        ids = ids.cpu()
        lengths = self.indptr.diff()[ids]
        starts = row_starts(lengths)
        # Where each entry stands in its row, and where that row's entries begin.
        entries = torch.arange(int(starts[-1])) + (
            self.indptr[ids] - starts[:-1]
        ).repeat_interleave(lengths)
        return SparseRows(starts, self.indices[entries], self.weights[entries], self.columns)

    def map_columns(self, ids: Tensor, columns: int) -> "SparseRows":
        """Turn column j into column ``ids[j]`` of ``columns``; ids is (S,). Equal ids are summed.

        Raises:
            ValueError: If ids does not have one id for each column, or an id is out of bounds.
        """
        if ids.shape != (self.columns,):
            raise ValueError(
                f"ids of shape {tuple(ids.shape)} for {self.columns} columns; give one id for each"
            )
        check_ids(ids, columns, "ids", "columns")
        mapped = ids.cpu()[self.indices]
        return SparseRows(
            *canonical(self._row_numbers(), mapped, self.weights.double(), (len(self), columns))
        )

    def scatter(self, ids: Tensor, rows: int) -> "SparseRows":
        """Place row i at row ``ids[i]`` of an otherwise empty matrix of ``rows`` rows.

        Raises:
            ValueError: If there is not one id for each row, or ids repeat or are out of bounds.
        """
        if ids.shape != (len(self),) or (ids.sort().values.diff() == 0).any():
            raise ValueError(
                f"ids of shape {tuple(ids.shape)} for {len(self)} rows miss or repeat some; give "
                "one distinct id for each row"
            )
        check_ids(ids, rows, "ids", "rows")
        placed = ids.cpu()[self._row_numbers()]
        return SparseRows(
            *canonical(placed, self.indices, self.weights.double(), (rows, self.columns))
        )

    def without(self, ids: Tensor) -> "SparseRows":
        """Empty some rows, (n,) their numbers."""
        if not len(ids):
            return self
        rest = torch.ones(len(self), dtype=torch.bool)
        rest[ids] = False
        counts = self.indptr.diff()
        kept = rest.repeat_interleave(counts)
        starts = torch.cat(
            [torch.zeros(1, dtype=torch.int64), torch.where(rest, counts, 0).cumsum(0)]
        )
        return SparseRows(starts, self.indices[kept], self.weights[kept], self.columns)

    def combine(self, other: "SparseRows", a: float, b: float) -> "SparseRows":
        """Return ``a`` times this matrix plus ``b`` times another of the same shape.

        Raises:
            ValueError: If the shapes differ, or a factor or a resulting weight is not finite.
        """
        if (len(self), self.columns) != (len(other), other.columns):
            raise ValueError(
                f"{len(self)} x {self.columns} and {len(other)} x {other.columns} cannot be added; "
                "give matrices of one shape"
            )
        if not (math.isfinite(a) and math.isfinite(b)):
            raise ValueError(f"factors a={a} and b={b} are not both finite; give finite factors")
        return SparseRows(
            *canonical(
                torch.cat([self._row_numbers(), other._row_numbers()]),
                torch.cat([self.indices, other.indices]),
                torch.cat([a * self.weights.double(), b * other.weights.double()]),
                (len(self), self.columns),
            )
        )

    def scaled(self, factors: Tensor) -> "SparseRows":
        """Return each row times a factor of its own, (T,).

        Raises:
            ValueError: If there is not one factor for each row, or a resulting weight is not
                finite.
        """
        if factors.shape != (len(self),):
            raise ValueError(
                f"factors of shape {tuple(factors.shape)} for {len(self)} rows; give one for each"
            )
        rows = self._row_numbers()
        weights = self.weights.double() * factors.cpu().double()[rows]
        return SparseRows(*canonical(rows, self.indices, weights, (len(self), self.columns)))

    def apply(
        self, table: Tensor, *, below: Tensor | None = None, columns_at_once: int = 64
    ) -> Tensor:
        """Multiply: each row of the result is the weighted sum of rows of the table.

        A row with the single weight 1 is a copy, bit for bit; an empty row is zeros. Sums are
        computed in float32 (float64 for a float64 table) and rounded once, to the table's dtype,
        where they may overflow. Beside the result, memory holds one block of columns of the rows
        that occur and of the result.
        The result does not depend on the block, nor a row on the other rows (bit for bit on a CPU).

        Args:
            table: (S, D) floating point, on any device; or (S - A, D) with A more rows below it.
            below: (A, D) in the table's dtype: rows that follow the table's, without a copy of it.
            columns_at_once: Columns of the table in one block, at least 1.

        Returns:
            (T, D) in the table's dtype, on its device.

        Raises:
            ValueError: If the table does not fit, or ``columns_at_once`` is below 1.
        """
        return product(self, table, below, columns_at_once)

    def _row_numbers(self) -> Tensor:
        """Return the row of each entry, (nnz,)."""
        return torch.repeat_interleave(self.indptr.diff())
