"""Looks at all atoms: which of them correlate most with what is left of a target.

There are two kinds. A :class:`ProductLook` multiplies the residual by the table: N x E a target.
A :class:`GramLook` makes use of the residual being the target less a few atoms, whose products with
all atoms were computed beforehand: r = y - Σ w_i a_i gives Ar = Ay - Σ w_i (A a_i), which is t x N
for t atoms taken. The products of all pairs are worth their N x N bytes where there are many
targets.
"""

from typing import Protocol

import torch
from torch import Tensor

from tokswap.solvers.batch import Batch

ROWS = 16
"""Rows to which a product is padded, at least.

A matrix product rounds a row in the same way in every tall product, but not in one of a few rows
(seen below 8 rows with MKL), and what a target gets must not depend on those beside it.
"""
_GROUP = 8  # atoms of whose scores only the maximum is looked at first
# Scores that are held at once: on a CPU few enough to stay in its cache until they are sorted.
_SCORES = 1 << 20
_WIDTH = {"cpu": 4096}  # atoms that are multiplied at once
_TILE = 2048  # rows of a tile of the matrix of all pairs
_SUM = "embedding_bag_byte_rowwise_offsets"  # torch's weighted sum of rows of bytes
_CLEAR = 4  # a score this many times the error of the stored products is above the blur


class Look(Protocol):
    """A way to find the best of all atoms."""

    def begin(self, batch: Batch) -> None:
        """Make ready for a batch at its first step."""

    def best(self, batch: Batch, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Find the atoms with the largest scores for some rows of the batch.

        Args:
            batch: The batch.
            rows: (n,) rows, at least one.
            count: Atoms a row, from 1 to N.

        Returns:
            (n, count) atoms in ascending order, and the least of their scores, (n,) float32.
        """


class ProductLook:
    """The product of residual and table.

    Args:
        table: (N, E) atoms of unit norm, or zero, in the type of the product (such as bfloat16).
        scale: (N,) factors on the scores, or None.
    """

    def __init__(self, table: Tensor, scale: Tensor | None) -> None:
        self._table, self._scale = table, scale

    def begin(self, batch: Batch) -> None:
        """See :class:`Look`."""

    def best(self, batch: Batch, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See :class:`Look`."""
        residual, table = batch.residual[rows], self._table
        seen = torch.nn.functional.pad(residual.to(table.dtype), (0, 0, 0, -len(rows) % ROWS))
        # The same blocks for any number of rows, or which of equal atoms is found would depend on
        # it.
        width = _WIDTH.get(table.device.type, 1 << 15)
        space = seen.new_empty(len(seen) * min(width, len(table)))
        values, places = [], []
        for start in range(0, len(table), width):
            part = table[start : start + width]
            scores = space[: len(seen) * len(part)].view(len(seen), len(part))
            torch.mm(seen, part.T, out=scores)
            scores.abs_()
            if self._scale is not None:
                scores *= self._scale[start : start + width]
            top = largest(scores[: len(rows)], min(count, len(part)))
            values.append(top[0])
            places.append(top[1] + start)
        found = torch.cat(values, dim=1).topk(count, dim=1, sorted=False)
        chosen = torch.cat(places, dim=1).gather(1, found.indices)
        return chosen.sort(dim=1).values, found.values.amin(dim=1).float()


class GramLook:
    """The products of all pairs of atoms, a byte each, on a CPU.

    A product of unit vectors is stored to 1/127. Where the scores at the end of a list are not well
    above what that blurs, the list is made by a product instead.

    Args:
        table: (N, E) float32 atoms of unit norm, or zero.
        scale: (N,) factors on the scores, or None.
    """

    def __init__(self, table: Tensor, scale: Tensor | None) -> None:
        self._table, self._scale = table, scale
        self._pairs = _pairs(table)
        self._product = ProductLook(table, scale)
        self._first = table.new_empty(0)

    @staticmethod
    def works_on(device: torch.device) -> bool:
        """Tell whether this look can be had on a device."""
        return device.type == "cpu" and hasattr(torch.ops.quantized, _SUM)

    def begin(self, batch: Batch) -> None:
        """See :class:`Look`."""
        shape = len(batch.residual), len(self._table)
        if self._first.shape != shape:
            self._first = self._table.new_empty(shape)
        torch.mm(batch.residual, self._table.T, out=self._first)

    def best(self, batch: Batch, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See :class:`Look`."""
        at_once = max(_SCORES // len(self._table), 8)
        space = self._first.new_empty(min(at_once, len(rows)), len(self._table))
        values, places = [], []
        blurred = torch.zeros(len(rows), dtype=torch.bool)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            scores, blur = space[: len(some)], space.new_zeros(len(some))
            torch.index_select(self._first, 0, some, out=scores)
            if batch.step:
                weights = batch.weights(some)
                scores -= self._taken(batch.picked[some, : batch.step], weights)
                blur = torch.linalg.vector_norm(weights, dim=1) * (_CLEAR / 127 / 12**0.5)
            scores.abs_()
            if self._scale is not None:
                scores *= self._scale
                blur = blur * self._scale.amax()
            top = largest(scores, count)
            values.append(top[0].amin(dim=1))
            places.append(top[1])
            blurred[start : start + at_once] = values[-1] < blur
        least, found = torch.cat(values), torch.cat(places).sort(dim=1).values
        if len(again := blurred.nonzero()[:, 0]):
            found[again], least[again] = self._product.best(batch, rows[again], count)
        return found, least

    def _taken(self, picked: Tensor, weights: Tensor) -> Tensor:
        """Multiply combinations of atoms, (n, t) numbers and weights, with all atoms, (n, N)."""
        ends = torch.arange(0, picked.numel() + 1, picked.shape[1])
        atoms, factors = picked.clamp_min(0).reshape(-1), weights.reshape(-1)
        add = getattr(torch.ops.quantized, _SUM)
        found: Tensor = add(self._pairs, atoms, ends, False, 0, False, factors, None, True)
        return found


def _pairs(table: Tensor) -> Tensor:
    """Multiply all pairs of atoms: (N, N + 8) bytes, with each row's factor and offset behind it.

    A byte b stands for (b - 128) / 127, so that 0 and 1 are exact.
    """
    count = len(table)
    pairs = torch.empty((count, count + 8), dtype=torch.uint8)
    pairs[:, count:] = torch.tensor([1 / 127, -128 / 127], dtype=torch.float32).view(torch.uint8)
    space = table.new_empty(_TILE * _TILE)
    for start in range(0, count, _TILE):
        above = slice(start, min(start + _TILE, count))
        factors = table[above] * 127
        for other in range(start, count, _TILE):
            beside = slice(other, min(other + _TILE, count))
            part = table[beside].T
            tile = space[: len(factors) * part.shape[1]].view(len(factors), part.shape[1])
            small = torch.mm(factors, part, out=tile).add_(128.5).to(torch.uint8)
            pairs[above, beside] = small
            pairs[beside, above] = small.T.contiguous()
    return pairs


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the largest of each row: values and places, (n, count) each, in any order.

    The groups with the largest maxima hold them all, so few scores have to be sorted.
    """
    groups = scores.shape[1] // _GROUP
    if groups <= 2 * count:
        top = scores.topk(count, dim=1, sorted=False)
        return top.values, top.indices
    whole = groups * _GROUP
    maxima = scores[:, :whole].view(-1, _GROUP, groups).amax(dim=1)
    group = maxima.topk(count, dim=1, sorted=False).indices
    members = group[:, None] + groups * torch.arange(_GROUP, device=scores.device)[:, None]
    places = members.flatten(1)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(scores), -1)
    places = torch.cat([places, rest], dim=1)
    top = scores.gather(1, places).topk(count, dim=1, sorted=False)
    return top.values, places.gather(1, top.indices)
