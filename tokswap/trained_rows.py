"""Rows of a transplanted base that were trained further, and what they become for a fine-tune.

    new_rows = W · fine_tune_rows + (trained_rows - W · base_rows)

What training has changed in a row is added whole, whatever the strength is for the body: a row
that a method had to guess is only half learned at half the change. ZeTT does so, too: its
embeddings are those of the trained base. They are here as well, where fine-tuning has changed
nothing and where the plan holds rows as they are.

Reference:
    Minixhofer et al. (2024), Zero-Shot Tokenizer Transfer, https://arxiv.org/abs/2405.07883.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokswap.checkpoint.difference import ratio
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import load_table
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import CheckpointError, OutputError
from tokswap.new_tensors import blocks_of, whole
from tokswap.plan import Plan, RolePlan
from tokswap.sizes import new_rows_of
from tokswap.transplanted import Transplanted

COLUMNS_AT_ONCE = 64
"""Columns of a table whose change is combined at once, in float32."""

SLACK = 2.0**-20
"""How far two machines' sums in float32 may lie apart, next to the largest number of the row."""


@dataclass(frozen=True, eq=False)
class TrainedTable:
    """A vocabulary tensor of a transplanted base, beside what the plan makes of its base.

    Attributes:
        like: The tensor in the transplanted base.
        original: The tensor in the base.
        moved: (rows,) bool, the rows that are not what the plan gives.
        relative: Size of the difference over that of what the plan gives, in these rows.
    """

    like: VocabTensor
    original: VocabTensor
    moved: Tensor
    relative: float

    @property
    def count(self) -> int:
        """Number of rows that were trained further."""
        return int(self.moved.sum())


def find_trained(made: Transplanted, ours: VocabTensor, theirs: VocabTensor) -> TrainedTable:
    """Find the rows that are not what the plan gives, up to the rounding of their type.

    A trainer may have stored them in another type, and another machine may sum up in another order.
    So where all rows that differ are mixed ones and within one rounding of the plan's, they count
    as the plan's: training would have moved a copied row too, or one of them further.

    Args:
        made: The transplanted base, the base that it was made of, and the plan.
        ours: The tensor in the transplanted base.
        theirs: The same tensor in the base.

    Raises:
        CheckpointError: If the tensor has another shape than the plan gives, holds NaN or infinite
            numbers, or is a table of whole numbers that differ.
    """
    _check_shape(made, ours, theirs)
    table = _rows(load_table(made.like, ours.name, ours.axis).movedim(ours.axis, 0))
    plain = load_table(made.original, theirs.name, theirs.axis).dtype
    types = [None] if plain == table.dtype else [None, str(table.dtype).removeprefix("torch.")]
    moved, near = torch.zeros(len(table), dtype=torch.bool), True
    apart = size = 0.0
    start = 0
    ways = (_made(made, theirs, dtype) for dtype in types)
    for given in zip(*ways, strict=True):
        block = table[start : start + len(given[0])]
        differ = [(each.to(block.dtype) != block).any(dim=1) for each in given]
        found = torch.stack(differ).all(dim=0)
        if bool(found.any()):
            trained, wanted = block[found].double(), given[0][found].double()
            apart += float((trained - wanted).square().sum())
            size += float(wanted.square().sum())
            near = near and _is_near(trained, wanted, (plain, table.dtype))
        moved[start : start + len(block)] = found
        start += len(block)
    if bool(moved.any()) and not table.is_floating_point():
        raise CheckpointError(
            f"{made.like.name}: {ours.name} holds whole numbers that are not those that the plan "
            "gives, and such a difference cannot be added to a fine-tune; give a transplanted base "
            "with its own table"
        )
    copied = made.plan.copied(theirs.role)[: len(moved)] >= 0
    if near and not bool((moved & copied).any()):
        return TrainedTable(ours, theirs, torch.zeros_like(moved), 0.0)
    return TrainedTable(ours, theirs, moved, ratio(apart, size))


def trained_blocks(
    fine: Checkpoint,
    tensor: VocabTensor,
    plan: Plan,
    made: Transplanted,
    trained: TrainedTable,
    dtype: str | None = None,
) -> Iterator[Tensor]:
    """Compute a vocabulary tensor of a fine-tune, with what training has changed.

    Rows that were not trained further are those that the plan gives, bit for bit. The others are
    computed as ``trained + W · (fine_tune - base)``, which is the same and rounds less. Memory
    holds these rows, and some columns of the tables.

    Args:
        fine: The fine-tune.
        tensor: The tensor in the fine-tune.
        plan: The plan, for the fine-tune.
        made: The transplanted base, the base that it was made of, and the plan for that one.
        trained: Which rows were trained further.
        dtype: Name of the type to give it; the one that it has without it.

    Yields:
        The tensor, some of its rows at a time, as it is stored.

    Raises:
        OutputError: If the type cannot hold its numbers.
    """
    new = getattr(torch, dtype) if dtype else fine.load(tensor.name).dtype
    ids = trained.moved.nonzero()[:, 0]
    rows = _trained_rows(fine, tensor, plan, made, trained, new)
    if not bool(rows.isfinite().all()):
        raise OutputError(f"the new {tensor.name} holds numbers beyond {new}; choose a wider dtype")
    start = 0
    for given in blocks_of(fine, plan, tensor, dtype):
        block = given.movedim(tensor.axis, 0).clone()
        inside = (ids >= start) & (ids < start + len(block))
        block[ids[inside] - start] = rows[inside].reshape(-1, *block.shape[1:])
        start += len(block)
        yield block.movedim(0, tensor.axis).contiguous()


def _trained_rows(
    fine: Checkpoint,
    tensor: VocabTensor,
    plan: Plan,
    made: Transplanted,
    trained: TrainedTable,
    new: torch.dtype,
) -> Tensor:
    """Compute the rows that were trained further, (R, D); they are rounded once."""
    ids = trained.moved.nonzero()[:, 0]
    last = _load(made.like, trained.like)
    before = whole(_load(made.original, trained.original), made.plan.base_rows)
    after = whole(_load(fine, tensor), plan.base_rows)
    stored = torch.promote_types(torch.promote_types(last.dtype, before.dtype), after.dtype)
    wide = torch.promote_types(stored, torch.float32)
    part = _without_held(plan.roles.get(tensor.role, plan.roles["input"]))
    both = min(len(before), len(after))
    found = torch.empty(len(ids), last.shape[1], dtype=new)
    for start in range(0, last.shape[1], COLUMNS_AT_ONCE):
        columns = slice(start, start + COLUMNS_AT_ONCE)
        # Rows that only one of both has stand for no token of the plan.
        change = torch.zeros_like(after[:, columns], dtype=wide)
        change[:both] = after[:both, columns].to(wide) - before[:both, columns].to(wide)
        found[:, columns] = last[ids, columns].to(wide) + part.apply(change)[ids]
    return found


def _without_held(part: RolePlan) -> RolePlan:
    """Take the rows that a plan holds as they are for rows that nothing changes."""
    return replace(part, dense_ids=part.dense_ids[:0], dense_rows=part.dense_rows[:0])


def _check_shape(made: Transplanted, ours: VocabTensor, theirs: VocabTensor) -> None:
    """Check that a tensor has the shape that the plan gives it.

    Raises:
        CheckpointError: If it has not.
    """
    before, after = made.original.info(theirs.name).shape, made.like.info(ours.name).shape
    axis, rows = theirs.axis, new_rows_of(theirs, made.plan)
    wanted = (*before[:axis], rows, *before[axis + 1 :])
    if after != wanted:
        raise CheckpointError(
            f"{made.like.name!r} was not made of {made.original.name!r}: its {ours.name} has the "
            f"shape {after}, and the plan makes {wanted} of {before}; name the base that it was "
            "made of with --original, or remove a tokswap.plan that is not its own"
        )


def _made(made: Transplanted, tensor: VocabTensor, dtype: str | None) -> Iterator[Tensor]:
    """Compute what the plan makes of a base's tensor, some rows at a time."""
    for block in blocks_of(made.original, made.plan, tensor, dtype):
        yield _rows(block.movedim(tensor.axis, 0))


def _load(checkpoint: Checkpoint, tensor: VocabTensor) -> Tensor:
    return _rows(checkpoint.load(tensor.name).movedim(tensor.axis, 0))


def _rows(table: Tensor) -> Tensor:
    """Give a table (rows, D); a bias has the width 1."""
    return table.reshape(len(table), -1)


def _is_near(trained: Tensor, wanted: Tensor, types: Sequence[torch.dtype]) -> bool:
    """Tell whether numbers are one rounding apart at most."""
    if not all(dtype.is_floating_point for dtype in types):
        return False
    rounding = max(torch.finfo(dtype).eps for dtype in types)
    larger = torch.maximum(trained.abs(), wanted.abs())
    slack = SLACK * wanted.abs().amax(dim=1, keepdim=True)
    return bool(((trained - wanted).abs() <= rounding * larger + slack).all())
