"""The memory that each stage of a transplant takes at its peak, about."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tokswap.checkpoint.header import DTYPE_BITS
from tokswap.checkpoint.source import Checkpoint
from tokswap.methods import Sizes
from tokswap.pair import Pair
from tokswap.planning import alike
from tokswap.recipe import Recipe
from tokswap.solvers.product import ROWS_AT_ONCE

if TYPE_CHECKING:
    from tokswap.estimate import Table

RUNTIME = 500 << 20
"""Memory of a process that has imported torch and transformers, about."""
WORK = 256 << 20
"""Memory of the blocks that rows are computed in, about."""
HEADER = 8 << 10
"""Bytes of the plan's own header, at most."""


def plan_bytes(pair: Pair, recipe: Recipe) -> int:
    """Bytes of the plan: eight for a weight with its column or a row, four for a token."""
    alignment, methods = pair.alignment, recipe.methods
    donor_tied = pair.donor_layout is not None and pair.donor_layout.tied
    same = alike(methods, donor_tied=donor_tied) and not alignment.input_source
    sizes, held = _sizes(pair), 0
    # What serves both roles is held once.
    for method in [methods["input"]] if pair.layout.tied or same else methods.values():
        cost = method.cost(sizes)
        entries = len(alignment.used_base_ids) + 2 * alignment.rows + cost.weights
        rows = sizes.filled(shared=method.fills_shared) if cost.dense else 0
        held += 8 * entries + 4 * sizes.base_width * rows
    tokens = len(alignment.base) + len(alignment.donor)
    return alignment.rows + held + 4 * tokens + HEADER


def peak_memory(
    pair: Pair, recipe: Recipe, tables: "tuple[Table, ...]", plan: int, *, plan_only: bool
) -> dict[str, int]:
    """Bytes at the peak of each stage, about; files that are read in place are not counted."""
    base = pair.base
    methods = () if recipe.like else recipe.methods.values()  # with it, nothing is solved
    solving = max((method.cost(_sizes(pair)).memory for method in methods), default=WORK)
    found = {"plan": RUNTIME + 2 * plan + solving}
    if plan_only:
        return found
    found["write"] = RUNTIME + plan + max(_writing(pair, tables), default=0)
    if recipe.like:  # rows that were trained further are held, and some columns of the tables
        found["write"] += WORK + max((table.bytes for table in tables), default=0)
    weights = weights_bytes(base) + sum(table.bytes - table.old_bytes for table in tables)
    if recipe.verify:
        found["verify"] = 2 * RUNTIME + weights
    if recipe.eval is not None:
        elements = sum(
            math.prod(info.shape)
            for shard in base.shards
            for info in base.header(shard).tensors.values()
        )
        found["evaluate"] = RUNTIME + WORK + 4 * elements
    return found


def _writing(pair: Pair, tables: "tuple[Table, ...]") -> Iterator[int]:
    """Bytes that each table needs while it is written, block by block."""
    for tensor, table in zip(pair.layout.tensors, tables, strict=True):
        stored = pair.base.info(table.name).dtype
        bits = max(DTYPE_BITS[stored], DTYPE_BITS[table.dtype])
        if {stored, table.dtype} == {"F16", "BF16"}:
            bits = DTYPE_BITS["F32"]  # which holds both
        rows = max(table.shape[tensor.axis], 1)
        numbers = math.prod(table.shape)
        # The block, the one before it, the rows that are copied into it and those looked at.
        needed = 4 * (numbers * min(ROWS_AT_ONCE, rows) // rows) * bits // 8
        if stored != table.dtype or pair.base.parts(table.name):
            needed += math.prod(table.old_shape) * bits // 8  # else it is read in place
        if tensor.axis:
            needed += 2 * table.bytes  # it is put together, and turned
        yield needed


def weights_bytes(base: Checkpoint) -> int:
    """Bytes of all shards."""
    return sum(base.files.size(shard) for shard in base.shards)


def checked(pair: Pair, recipe: Recipe) -> Pair:
    """Give a pair back whose sizes suit the recipe's methods.

    Raises:
        MethodError: If they do not.
    """
    for method in recipe.methods.values():
        method.check(_sizes(pair))
    return pair


def _sizes(pair: Pair) -> Sizes:
    width = pair.base.info(pair.layout.input).shape[1]
    layout = pair.donor_layout
    donor_width = pair.donor.info(layout.input).shape[1] if layout else 0
    return Sizes(pair.alignment, width, donor_width, pair.layout.tied)
