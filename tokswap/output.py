"""The output folder: the base's weights with new vocabulary tensors, the donor's tokenizer."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.draft import new_draft
from tokswap.checkpoint.files import chat_template, tokenizer_files
from tokswap.checkpoint.layout import VocabTensor
from tokswap.checkpoint.settings import patch_settings
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
from tokswap.sizes import new_rows_of, set_sizes, with_defaults
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
        SHA-256 of the new vocabulary tensors by name, and a line for each id in the settings that
        was dropped because the new vocabulary has no such token.
    """
    hashes: dict[str, str] = {}
    replacements = _replacements(pair, plan, recipe, hashes)
    write_weights(folder, pair.base, replacements, drop=pair.layout.dropped)
    dropped = _write_settings(folder, pair, plan)
    for name, path in tokenizer_files(pair.donor.files).items():
        shutil.copyfile(path, folder / name)
    _write_chat_template(folder, pair, recipe.chat_template)
    for name in carried_files(pair.base):
        shutil.copyfile(pair.base.files.path(name), folder / name)
    for name, said in settings_beside(pair).items():
        write_json(folder / name, said)
    plan.save(folder / PLAN_FILE)
    return hashes, dropped


def _replacements(
    pair: Pair, plan: Plan, recipe: Recipe, hashes: dict[str, str]
) -> dict[str, Replacement]:
    replacements = {}
    for tensor in pair.layout.tensors:
        info, axis = pair.base.info(tensor.name), tensor.axis
        replacements[tensor.name] = Replacement(
            dtype=SAFETENSORS_TYPE.get(recipe.dtype or "", info.dtype),
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
    wide = table if table.dim() <= 2 else table.flatten(1)
    # A single column is a bias: rows that the plan holds as they are say nothing of it.
    made = plan.apply(wide[:, 0] if wide.dim() == 2 and wide.shape[1] == 1 else wide, role)
    return made.reshape(-1, *table.shape[1:])


def _write_settings(folder: Path, pair: Pair, plan: Plan) -> list[str]:
    """Write config.json and generation_config.json; unchanged ones byte for byte."""
    dropped: dict[str, list[str]] = {}
    notes: list[str] = []
    for name in ("config.json", "generation_config.json"):
        if name not in pair.base.files.names:
            continue
        old = said = pair.base.read_json(name)
        if name == "config.json" and pair.base.vocabulary.sha256 != pair.donor.vocabulary.sha256:
            said = with_defaults(old, pair.layout)  # transformers' defaults are the old ones
        new, lost = patch_settings(said, pair.alignment)
        if name == "config.json":
            notes = set_sizes(new, old, pair, plan)
            new = settings_of_plain(new, pair)
        for line in lost:
            dropped.setdefault(line, []).append(name)
        if new == old:
            shutil.copyfile(pair.base.files.path(name), folder / name)
        else:
            write_json(folder / name, new)
    return notes + [
        f"{line} ({' and '.join(files)}) has no counterpart in the new vocabulary and was dropped"
        for line, files in dropped.items()
    ]


def _write_chat_template(folder: Path, pair: Pair, whose: str) -> None:
    """Put the chat template where transformers looks first; the donor's needs nothing."""
    if whose == "donor":
        return
    template = chat_template(pair.base.files) if whose == "base" else None
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    settings = folder / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    if said.pop("chat_template", None) is not None:
        write_json(settings, said)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def write_json(path: Path, said: dict[str, Any]) -> None:
    """Write JSON so that the same content gives the same bytes, whole or not at all."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial_path.replace(path)
