"""The output folder: the base's weights with new vocabulary tensors, the donor's tokenizer."""

import copy
import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokswap.beside import (
    Beside,
    look_beside,
    write_chat,
    write_json,
    write_licences,
    write_settings,
)
from tokswap.checkpoint.draft import new_draft
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.layout import VocabTensor
from tokswap.checkpoint.writer import (
    Replacement,
    carried_files,
    tensor_bytes,
    write_weights,
)
from tokswap.errors import OutputError
from tokswap.made_plain import settings_beside, settings_of_plain
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import Recipe
from tokswap.sizes import new_rows_of, set_sizes
from tokswap.solvers.sparse import ROWS_AT_ONCE
from tokswap.tokenizer_folder import Settled, settle, write_tokenizer
from tokswap.vocabulary.align import Kind

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_TYPE = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_folder(
    folder: Path, pair: Pair, plan: Plan, recipe: Recipe, tokenizer: Settled | None = None
) -> tuple[dict[str, str], list[str]]:
    """Write everything but the record and the model card.

    Args:
        folder: An empty folder.
        pair: The base and the donor.
        plan: Where the new rows come from.
        recipe: What was asked for.
        tokenizer: How the tokenizer has to be written; found now where it is not given.

    Returns:
        SHA-256 of the new vocabulary tensors, and of a chat template of the user's own, by name;
        and what the user should know of the files beside the weights.
    """
    hashes: dict[str, str] = {}
    write_weights(
        folder, pair.base, _replacements(pair, plan, recipe, hashes), drop=pair.layout.dropped
    )
    beside = _with_sizes(look_beside(pair, recipe), pair, plan)
    tokenizer = tokenizer or settle(pair)
    write_tokenizer(folder, tokenizer_files(pair.donor.files), tokenizer.settings)
    hashes |= write_chat(folder, pair, recipe, beside)
    for name in carried_files(pair.base):
        shutil.copyfile(pair.base.files.path(name), folder / name)
    write_settings(folder, pair, beside)
    write_licences(folder, pair)
    for name, said in settings_beside(pair).items():
        write_json(folder / name, said)
    plan.save(folder / PLAN_FILE)
    return hashes, list(beside.notes)


def _replacements(
    pair: Pair, plan: Plan, recipe: Recipe, hashes: dict[str, str]
) -> dict[str, Replacement]:
    replacements = {}
    for tensor in pair.layout.tensors:
        info, axis = pair.base.info(tensor.name), tensor.axis
        replacements[tensor.name] = Replacement(
            dtype=SAFETENSORS_TYPE.get(recipe.dtype or "", info.dtype)
            if info.dtype in FLOATS
            else info.dtype,
            shape=(*info.shape[:axis], new_rows_of(tensor, plan), *info.shape[axis + 1 :]),
            make=partial(_new_tensor, pair, plan, tensor, recipe.dtype, hashes),
            parts=pair.base.stored_names(tensor.name),
        )
    return replacements | _draft_replacements(pair, plan, hashes)


def _draft_replacements(pair: Pair, plan: Plan, hashes: dict[str, str]) -> dict[str, Replacement]:
    """Choose a draft vocabulary among the new tokens, and replace what belongs to it."""
    import torch

    draft = pair.layout.draft
    if draft is None:
        return {}
    base, found = pair.base, dict[str, Replacement]()
    ids, old = new_draft(base.load(draft.d2t), plan.copied(), plan.base_rows)

    def made(name: str) -> "Tensor":
        if name == draft.d2t:
            tensor = (ids - torch.arange(len(ids))).to(base.load(name).dtype)
        elif name == draft.t2d:
            tensor = torch.zeros(plan.rows, dtype=base.load(name).dtype)
            tensor[ids] = 1
        else:
            tensor = base.load(name)[old]
        hashes[name] = hashlib.sha256(tensor_bytes(tensor)).hexdigest()
        return tensor

    for name in draft.names:
        info = base.info(name)
        rows = plan.rows if name == draft.t2d else len(ids)
        found[name] = Replacement(info.dtype, (rows, *info.shape[1:]), partial(made, name))
    return found


def _new_tensor(
    pair: Pair, plan: Plan, tensor: VocabTensor, dtype: str | None, hashes: dict[str, str]
) -> "Tensor":
    import torch

    name, axis = tensor.name, tensor.axis
    table = pair.base.load(name).movedim(axis, 0)
    if not table.is_floating_point():
        dtype = None
    new = getattr(torch, dtype) if dtype else table.dtype
    # Combined in the wider type, so that nothing is rounded twice.
    table = table.to(torch.promote_types(table.dtype, new))
    rows = _apply(plan, table, tensor.role)[: new_rows_of(tensor, plan)].to(new)
    # A copied row may hold what it likes, unless it was converted.
    checked = torch.arange(plan.rows) if dtype else (plan.kind == Kind.MISSING).nonzero()[:, 0]
    checked = checked[checked < len(rows)]
    starts = range(0, len(checked), ROWS_AT_ONCE)
    if not all(bool(rows[checked[n : n + ROWS_AT_ONCE]].isfinite().all()) for n in starts):
        raise OutputError(f"the new {name} holds numbers beyond {rows.dtype}; choose a wider dtype")
    made = rows.movedim(0, axis).contiguous()
    hashes[name] = hashlib.sha256(tensor_bytes(made)).hexdigest()
    return made


def _apply(plan: Plan, table: "Tensor", role: Role) -> "Tensor":
    """Apply a plan to a tensor whose first dimension is the vocabulary's."""
    import torch

    if len(table) < plan.base_rows:
        rest = table[:1].expand(plan.base_rows - len(table), *table.shape[1:])
        table = torch.cat([table, rest])
    if not table.is_floating_point():
        return table[plan.leading(role)]
    wide = table if table.dim() <= 2 else table.flatten(1)
    # A single column is a bias: rows that the plan holds as they are say nothing of it.
    made = plan.apply(wide[:, 0] if wide.dim() == 2 and wide.shape[1] == 1 else wide, role)
    return made.reshape(-1, *table.shape[1:])


def _with_sizes(beside: Beside, pair: Pair, plan: Plan) -> Beside:
    """Set what of config.json depends on the tensors: further sizes, and what is plain now."""
    config = copy.deepcopy(beside.settings["config.json"] or {})
    notes = set_sizes(config, pair.base.config, pair, plan)
    settings = {**beside.settings, "config.json": settings_of_plain(config, pair)}
    return replace(beside, settings=settings, notes=(*notes, *beside.notes))
