"""The new vocabulary tensors, each computed block by block when its turn to be written comes."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tokswap.checkpoint.draft import new_draft
from tokswap.checkpoint.header import written_type
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.checkpoint.writer import Replacement, tensor_bytes
from tokswap.errors import OutputError
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.recipe import Recipe
from tokswap.sizes import new_rows_of
from tokswap.vocabulary.align import Kind

if TYPE_CHECKING:
    from torch import Tensor


def replacements(
    pair: Pair, plan: Plan, recipe: Recipe, hashes: dict[str, str]
) -> dict[str, Replacement]:
    """Say what takes the place of each vocabulary tensor.

    Args:
        pair: The base and the donor.
        plan: Where the new rows come from.
        recipe: What was asked for.
        hashes: Gets the SHA-256 of each tensor by its name, once it is written.
    """
    found = {}
    for tensor in pair.layout.tensors:
        info, axis = pair.base.info(tensor.name), tensor.axis
        found[tensor.name] = Replacement(
            dtype=written_type(info.dtype, recipe.dtype),
            shape=(*info.shape[:axis], new_rows_of(tensor, plan), *info.shape[axis + 1 :]),
            make=partial(_new_tensor, pair, plan, tensor, recipe.dtype, hashes),
            parts=pair.base.stored_names(tensor.name),
        )
    return found | _draft_replacements(pair, plan, hashes)


def _draft_replacements(pair: Pair, plan: Plan, hashes: dict[str, str]) -> dict[str, Replacement]:
    """Choose a draft vocabulary among the new tokens, and replace what belongs to it."""
    import torch

    draft = pair.layout.draft
    if draft is None:
        return {}
    base, found = pair.base, dict[str, Replacement]()
    ids, old = new_draft(base.load(draft.d2t), plan.copied(), plan.base_rows)

    def made(name: str) -> "Iterator[Tensor]":
        if name == draft.d2t:
            tensor = (ids - torch.arange(len(ids))).to(base.load(name).dtype)
        elif name == draft.t2d:
            tensor = torch.zeros(plan.rows, dtype=base.load(name).dtype)
            tensor[ids] = 1
        else:
            tensor = base.load(name)[old]
        yield from hashed(name, [tensor], hashes)

    for name in draft.names:
        info = base.info(name)
        rows = plan.rows if name == draft.t2d else len(ids)
        found[name] = Replacement(info.dtype, (rows, *info.shape[1:]), partial(made, name))
    return found


def _new_tensor(
    pair: Pair, plan: Plan, tensor: VocabTensor, dtype: str | None, hashes: dict[str, str]
) -> "Iterator[Tensor]":
    """Compute a tensor, and note its hash."""
    return hashed(tensor.name, new_blocks(pair, plan, tensor, dtype), hashes)


def new_blocks(
    pair: Pair, plan: Plan, tensor: VocabTensor, dtype: str | None = None
) -> "Iterator[Tensor]":
    """Compute a tensor; one whose entries are not its rows comes in one piece.

    Args:
        pair: The base and the donor.
        plan: Where the new rows come from.
        tensor: One of the base's vocabulary tensors.
        dtype: Name of the type to give it; the one that it has without it.

    Yields:
        The tensor, some of its rows at a time, as it is stored.

    Raises:
        OutputError: If the type that was asked for cannot hold its numbers.
    """
    return blocks_of(pair.base, plan, tensor, dtype)


def blocks_of(
    base: Checkpoint, plan: Plan, tensor: VocabTensor, dtype: str | None = None
) -> "Iterator[Tensor]":
    """Do the work of :func:`new_blocks` on a base alone."""
    import torch

    table = base.load(tensor.name).movedim(tensor.axis, 0)
    if not table.is_floating_point():
        dtype = None
    new = getattr(torch, dtype) if dtype else table.dtype
    # Combined in the wider type, so that nothing is rounded twice.
    table = table.to(torch.promote_types(table.dtype, new))
    left, start = new_rows_of(tensor, plan), 0
    kinds = plan.kind[:left]

    def blocks() -> "Iterator[Tensor]":
        nonlocal start
        for rows in _blocks(plan, table, tensor.role):
            block = rows[: left - start].to(new)
            # A copied row may hold what it likes, unless it was converted.
            checked = block if dtype else block[kinds[start : start + len(block)] == Kind.MISSING]
            if checked.is_floating_point() and not bool(checked.isfinite().all()):
                raise OutputError(
                    f"the new {tensor.name} holds numbers beyond {new}; choose a wider dtype"
                )
            start += len(block)
            yield block

    if tensor.axis:
        yield torch.cat(list(blocks())).movedim(0, tensor.axis).contiguous()
    else:
        yield from blocks()


def hashed(name: str, blocks: "Iterable[Tensor]", hashes: dict[str, str]) -> "Iterator[Tensor]":
    """Pass blocks on, and note the hash of all of them."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(tensor_bytes(block))
        yield block
    hashes[name] = digest.hexdigest()


def whole(table: "Tensor", rows: int) -> "Tensor":
    """Give a table that ends early all its rows: the first stands for those behind its end."""
    import torch

    if len(table) >= rows:
        return table
    return torch.cat([table, table[:1].expand(rows - len(table), *table.shape[1:])])


def _blocks(plan: Plan, table: "Tensor", role: Role) -> "Iterator[Tensor]":
    """Apply a plan to a tensor whose first dimension is the vocabulary's."""
    table = whole(table, plan.base_rows)
    if not table.is_floating_point():
        yield table[plan.leading(role)]
        return
    wide = table if table.dim() <= 2 else table.flatten(1)
    # A single column is a bias: rows that the plan holds as they are say nothing of it.
    wide = wide[:, 0] if wide.dim() == 2 and wide.shape[1] == 1 else wide
    for block in plan.blocks(wide, role):
        yield block.reshape(-1, *table.shape[1:])
