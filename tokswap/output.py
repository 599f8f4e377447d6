"""The output folder: the base's weights with new vocabulary tensors, the donor's tokenizer."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.settings import patch_settings
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
        SHA-256 of the new vocabulary tensors by name, and a line for each id in the settings that
        was dropped because the new vocabulary has no such token.

    Raises:
        OutputError: If the disk is full or a file cannot be written.
    """
    hashes: dict[str, str] = {}
    try:
        write_weights(folder, pair.base, _replacements(pair, plan, recipe, hashes))
        dropped = _write_settings(folder, pair)
        for name, path in tokenizer_files(pair.donor.files).items():
            shutil.copyfile(path, folder / name)
        _write_chat_template(folder, pair, recipe.chat_template)
        for name in carried_files(pair.base):
            shutil.copyfile(pair.base.files.path(name), folder / name)
        plan.save(folder / PLAN_FILE)
    except OSError as error:
        raise OutputError(
            f"writing stopped: {error.strerror or error}; nothing was kept; free some space or "
            "choose another output"
        ) from error
    return hashes, dropped


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

    tensor = plan.apply(pair.base.load(name), role)
    if dtype is not None:
        tensor = tensor.to(getattr(torch, dtype))
    missing = (plan.kind == Kind.MISSING).nonzero()[:, 0]
    starts = range(0, len(missing), ROWS_AT_ONCE)
    if not all(bool(tensor[missing[n : n + ROWS_AT_ONCE]].isfinite().all()) for n in starts):
        raise OutputError(
            f"the new {name} holds numbers beyond {tensor.dtype}; choose a wider dtype"
        )
    hashes[name] = hashlib.sha256(tensor_bytes(tensor)).hexdigest()
    return tensor


def _write_settings(folder: Path, pair: Pair) -> list[str]:
    """Write config.json and generation_config.json; unchanged ones byte for byte."""
    dropped: dict[str, list[str]] = {}
    for name in ("config.json", "generation_config.json"):
        if name not in pair.base.files.names:
            continue
        old = pair.base.read_json(name)
        new, lost = patch_settings(old, pair.alignment)
        for line in lost:
            dropped.setdefault(line, []).append(name)
        if new == old:
            shutil.copyfile(pair.base.files.path(name), folder / name)
        else:
            write_json(folder / name, new)
    return [
        f"{line} ({' and '.join(files)}) has no counterpart in the new vocabulary and was dropped"
        for line, files in dropped.items()
    ]


def _write_chat_template(folder: Path, pair: Pair, whose: str) -> None:
    """Put the chat template where transformers looks first; the donor's needs nothing."""
    if whose == "donor":
        return
    template = (
        chat_template(pair.base.files.names, pair.base.files.path) if whose == "base" else None
    )
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    settings = folder / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    if said.pop("chat_template", None) is not None:
        write_json(settings, said)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def chat_template(names: frozenset[str], path: Callable[[str], Path]) -> str | None:
    """Read a model's chat template, from its own file or from tokenizer_config.json."""
    if "chat_template.jinja" in names:
        return path("chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name in names:
            said = json.loads(path(name).read_text(encoding="utf-8")).get("chat_template")
            if isinstance(said, str):
                return said
    return None


def write_json(path: Path, said: dict[str, Any]) -> None:
    """Write JSON so that the same content gives the same bytes, whole or not at all."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial_path.replace(path)
