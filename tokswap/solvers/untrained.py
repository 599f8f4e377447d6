"""Rows of a vocabulary's table that were never trained, or hardly: found from the table alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

_NUMBERS = 2**20  # that are looked at at once: float32 of them stay in the cache, and in the heap

_GROUP = 4  # rows that say a direction, at least
_AGREE = 0.8  # length of the mean of their unit vectors, at least
_ALIKE = 0.95  # cosine from which a row points where they point


def untrained_rows(
    table: Tensor, *, unused: Tensor | None = None, deviations: float = 4.0
) -> Tensor:
    """Find the rows that were never trained, or hardly.

    Training moves each row in its own way; those that it does not touch are alike in one of these:

    - They are zeros, or equal to other rows bit for bit.
    - Their length is odd. In an embedding they keep the short rows of the initialisation, or lose
      them to weight decay. In a head, or a table that is embedding and head, they are long: each
      step pushes the tokens that did not come away from what did. Rows that were set to the mean
      are short once the mean is taken away.
    - They point to one side, once the mean is taken away, for all are pushed the same way. Rows of
      odd length, and rows that are known to be unused, tell the side where they agree on one.

    The work is proportional to the table, and memory holds one block of rows beside it.

    Args:
        table: (S, D) floating point.
        unused: Ids of rows that are known to be unused, such as padding. They tell a side and do
            not count for what is usual, and are found only if they look untrained, too.
        deviations: A log length this many robust deviations off the median is odd.

    Returns:
        (S,) bool. Rows that hold NaN or infinities are not found.
    """
    known = torch.zeros(len(table), dtype=torch.bool)
    if unused is not None:
        known[unused] = True
    none = torch.zeros(table.shape[1])
    lengths = _lengths(table, none)
    sound = lengths.isfinite()
    found = sound & ((lengths == 0) | _repeated(table, lengths))
    usual = sound & ~found & ~known
    if not usual.any():
        return found
    off = _deviations(lengths, usual)
    short, long = sound & (off < -deviations), sound & (off > deviations)
    mean = _sum(table, usual & ~short & ~long, none) / (usual & ~short & ~long).sum()
    lengths = _lengths(table, mean)
    nothing = lengths == 0  # a row that is the mean points nowhere
    groups = [group & ~found & ~nothing for group in (short, long, known & sound)]
    found |= short | long | (sound & (_deviations(lengths, usual) < -deviations))
    for group in groups:
        if int(group.sum()) >= _GROUP:
            side = _sum(table, group, mean, unit=True) / group.sum()
            if side.norm() >= _AGREE:
                found |= sound & ~nothing & (_cosines(table, mean, side, lengths) >= _ALIKE)
    return found


def _deviations(lengths: Tensor, usual: Tensor) -> Tensor:
    """Robust standard deviations of the log lengths from the median of the usual ones."""
    logs = lengths.log()
    middle = logs[usual].median()
    # 1.4826 makes it a standard deviation where lengths are normal; the floor is for tables whose
    # rows are all of one length.
    spread = (1.4826 * (logs[usual] - middle).abs().median()).clamp(min=0.02)
    return (logs - middle) / spread


def _repeated(table: Tensor, lengths: Tensor) -> Tensor:
    """Tell which rows are equal to another one, bit for bit."""
    # Equal rows have one length but for rounding, so few others have to be looked at.
    repeated = torch.zeros(len(table), dtype=torch.bool)
    ordered, order = lengths.sort()
    close = ordered.diff() <= 1e-6 * ordered[1:]
    repeated[order[1:][close]] = repeated[order[:-1][close]] = True
    ids = repeated.nonzero()[:, 0]
    hashes, order = _hashes(table, ids).sort()
    repeated[ids] = False
    equal = hashes.diff() == 0
    repeated[ids[order[1:][equal]]] = repeated[ids[order[:-1][equal]]] = True
    return repeated


def _hashes(table: Tensor, ids: Tensor) -> Tensor:
    """Hash some rows to 64 bits each."""
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16}[table.element_size()]
    draw = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (table.shape[1],), generator=draw)
    parts = [(rows.view(whole) * factors).sum(dim=1) for rows in _chosen(table, ids)]
    return torch.cat(parts)


def _lengths(table: Tensor, mean: Tensor) -> Tensor:
    return torch.cat([(block.float() - mean).norm(dim=1) for block in _blocks(table)])


def _sum(table: Tensor, chosen: Tensor, mean: Tensor, *, unit: bool = False) -> Tensor:
    """Sum the chosen rows without the mean, or their unit vectors."""
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for block in _chosen(table, chosen.nonzero()[:, 0]):
        rows = block.float() - mean
        rows = rows / rows.norm(dim=1, keepdim=True) if unit else rows
        total += rows.sum(dim=0, dtype=torch.float64)
    return total.float()


def _cosines(table: Tensor, mean: Tensor, side: Tensor, lengths: Tensor) -> Tensor:
    """Cosines of the rows without the mean, of these lengths, with a direction."""
    products = torch.cat([(block.float() - mean).mv(side) for block in _blocks(table)])
    norms: Tensor = lengths.clamp(min=1e-8) * side.norm()
    return products / norms


def _rows(table: Tensor) -> int:
    """Rows that are looked at at once, whatever their width."""
    return max(_NUMBERS // max(table.shape[1], 1), 1)


def _blocks(table: Tensor) -> Iterator[Tensor]:
    """Views of the table's rows; one empty block of an empty table."""
    rows = _rows(table)
    for start in range(0, max(len(table), 1), rows):
        yield table[start : start + rows].detach()


def _chosen(table: Tensor, ids: Tensor) -> Iterator[Tensor]:
    """Copies of some of the table's rows; one empty block of none."""
    rows = _rows(table)
    for start in range(0, max(len(ids), 1), rows):
        yield table.index_select(0, ids[start : start + rows]).detach()
