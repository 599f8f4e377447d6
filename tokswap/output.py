"""The output folder: the base's weights with new vocabulary tensors, the donor's tokenizer."""

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tokswap.beside import (
    Beside,
    look_beside,
    write_chat,
    write_json,
    write_licences,
    write_settings,
)
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.writer import (
    Replacement,
    carried_files,
    write_weights,
)
from tokswap.made_plain import settings_beside, settings_of_plain
from tokswap.new_tensors import replacements
from tokswap.pair import Pair
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import Recipe
from tokswap.sizes import set_sizes
from tokswap.tokenizer_folder import Settled, settle, write_tokenizer

Tensors = Callable[[Pair, Plan, Recipe, dict[str, str]], Mapping[str, Replacement]]
"""Says what takes the place of stored tensors, by their names, and gets their hashes to note."""


def write_folder(
    folder: Path,
    pair: Pair,
    plan: Plan,
    recipe: Recipe,
    tokenizer: Settled | None = None,
    beside: Beside | None = None,
    *,
    tensors: Tensors = replacements,
) -> tuple[dict[str, str], list[str]]:
    """Write everything but the record and the model card.

    Args:
        folder: An empty folder.
        pair: The base and the donor.
        plan: Where the new rows come from.
        recipe: What was asked for.
        tokenizer: How the tokenizer has to be written; found now where it is not given.
        beside: What the files beside the weights will say; likewise.
        tensors: Says what takes the place of which of the base's stored tensors.

    Returns:
        SHA-256 of the new vocabulary tensors, and of a chat template of the user's own, by name;
        and what the user should know of the files beside the weights.
    """
    hashes: dict[str, str] = {}
    write_weights(folder, pair.base, tensors(pair, plan, recipe, hashes), drop=pair.layout.dropped)
    beside = with_sizes(beside or look_beside(pair, recipe), pair, plan)
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


def with_sizes(beside: Beside, pair: Pair, plan: Plan) -> Beside:
    """Set what of config.json depends on the tensors: further sizes, and what is plain now."""
    config = copy.deepcopy(beside.settings["config.json"] or {})
    notes = set_sizes(config, pair.base.config, pair, plan)
    settings = {**beside.settings, "config.json": settings_of_plain(config, pair)}
    return replace(beside, settings=settings, notes=(*notes, *beside.notes))
