"""The output folder: the base's weights with new vocabulary tensors, the donor's tokenizer."""

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokswap.beside import look_beside, write_chat, write_licences, write_settings
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.writer import (
    Replacement,
    carried_files,
    tensor_bytes,
    write_weights,
)
from tokswap.errors import OutputError
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import Recipe
from tokswap.solvers.sparse import ROWS_AT_ONCE
from tokswap.vocabulary.align import Kind

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_TYPE = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_folder(
    folder: Path, pair: Pair, plan: Plan, recipe: Recipe
) -> tuple[dict[str, str], list[str]]:
    """Write everything but the record and the model card.

    Args:
        folder: An empty folder.
        pair: The base and the donor.
        plan: Where the new rows come from.
        recipe: What was asked for.

    Returns:
        SHA-256 of the new vocabulary tensors, and of a chat template of the user's own, by name;
        and what the user should know of the files beside the weights.
    """
    hashes: dict[str, str] = {}
    write_weights(folder, pair.base, _replacements(pair, plan, recipe, hashes))
    beside = look_beside(pair, recipe)
    for name, path in tokenizer_files(pair.donor.files).items():
        shutil.copyfile(path, folder / name)
    hashes |= write_chat(folder, pair, recipe, beside)
    for name in carried_files(pair.base):
        shutil.copyfile(pair.base.files.path(name), folder / name)
    write_settings(folder, pair, beside)
    write_licences(folder, pair)
    plan.save(folder / PLAN_FILE)
    return hashes, list(beside.notes)


def _replacements(
    pair: Pair, plan: Plan, recipe: Recipe, hashes: dict[str, str]
) -> dict[str, Replacement]:
    layout, rows = pair.layout, plan.rows
    roles: dict[str, Role] = {layout.input: "input"}
    roles |= dict.fromkeys(layout.copies, "input")
    if layout.output != layout.input:
        roles[layout.output] = "output"
    if layout.bias:
        roles[layout.bias] = "output"
    replacements = {}
    for name, role in roles.items():
        info = pair.base.info(name)
        replacements[name] = Replacement(
            dtype=SAFETENSORS_TYPE.get(recipe.dtype or "", info.dtype),
            shape=(rows, *info.shape[1:]),
            make=partial(_new_tensor, pair, plan, name, role, recipe.dtype, hashes),
        )
    return replacements


def _new_tensor(
    pair: Pair, plan: Plan, name: str, role: Role, dtype: str | None, hashes: dict[str, str]
) -> "Tensor":
    import torch

    table = pair.base.load(name)
    if dtype is None:
        tensor = plan.apply(table, role)
    else:
        # Combined in the wider type, so that nothing is rounded twice.
        new = getattr(torch, dtype)
        tensor = plan.apply(table.to(torch.promote_types(table.dtype, new)), role).to(new)
    # A copied row may hold what it likes, unless it was converted.
    checked = torch.arange(plan.rows) if dtype else (plan.kind == Kind.MISSING).nonzero()[:, 0]
    starts = range(0, len(checked), ROWS_AT_ONCE)
    if not all(bool(tensor[checked[n : n + ROWS_AT_ONCE]].isfinite().all()) for n in starts):
        raise OutputError(
            f"the new {name} holds numbers beyond {tensor.dtype}; choose a wider dtype"
        )
    hashes[name] = hashlib.sha256(tensor_bytes(tensor)).hexdigest()
    return tensor
