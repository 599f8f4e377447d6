"""The small files beside the weights: settings, chat template, processor files and licences."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokswap.chat_marks import listed, spoiled
from tokswap.checkpoint.chat_template import (
    DEFAULT,
    FILE,
    FOLDER,
    copy_folder,
    place_templates,
    read_template_file,
    read_templates,
)
from tokswap.checkpoint.licences import donor_licences
from tokswap.checkpoint.processor import (
    missing_marks,
    named_tokens,
    patch_processor,
    processor_files,
    unnamed_marks,
)
from tokswap.checkpoint.settings import add_ends, merged, patch_settings
from tokswap.checkpoint.turns import Turns, cut_marks, read_turns
from tokswap.errors import CheckpointError, RecipeError
from tokswap.pair import Pair
from tokswap.recipe import Recipe
from tokswap.vocabulary.special import levels


@dataclass(frozen=True)
class Beside:
    """What the files beside the weights will say, known before anything slow is done.

    Attributes:
        settings: New content of the base's JSON files by name; None is a file that is left out.
        templates: The chat templates by name.
        notes: What the user should know.
    """

    settings: Mapping[str, dict[str, Any] | None]
    templates: Mapping[str, str]
    notes: tuple[str, ...]


def look_beside(pair: Pair, recipe: Recipe) -> Beside:
    """Settle what the files beside the weights will say.

    Raises:
        RecipeError: If the chat template that was asked for does not suit the new vocabulary.
        CheckpointError: If the base sees or hears by tokens that the new vocabulary lacks.
    """
    settings: dict[str, dict[str, Any] | None] = {}
    notes: list[str] = []
    lost = missing_marks(pair.base, _config(pair), pair.alignment)
    if lost and not recipe.text_only:
        raise CheckpointError(
            f"{pair.base.name!r} takes in pictures, films or sound by {listed(lost)}, and "
            f"{pair.donor.name!r} has no such token; give a donor that has them all, or "
            "`--set text_only=true`, which keeps the model for text alone"
        )
    if lost:
        notes.append(f"pictures, films and sound no longer work: there is no {listed(lost)}")
    elif unnamed := unnamed_marks(pair.base, pair.donor):
        notes.append(
            f"the donor's tokenizer_config.json names no {listed(unnamed)}, which the base's "
            "processor may ask for"
        )
    for name in processor_files(pair.base):
        said = pair.base.read_json(name)
        settings[name] = None if lost else patch_processor(said, pair.alignment)

    templates, ends, told = _chat(pair, recipe)
    dropped = _patch(pair, settings)
    settings |= _with_ends(pair, settings, ends)
    return Beside(settings, templates, (*notes, *told, *dropped))


def _patch(pair: Pair, settings: dict[str, dict[str, Any] | None]) -> list[str]:
    """Patch config.json and generation_config.json; return a note for each id that was dropped."""
    dropped: dict[str, list[str]] = {}
    notes: set[str] = set()
    for name in ("config.json", "generation_config.json"):
        if name not in pair.base.files.names:
            continue
        said = _config(pair) if name == "config.json" else pair.base.read_json(name)
        settings[name], lost = patch_settings(said, pair.alignment)
        if pair.layout.counts_from_pad and not pair.alignment.own:
            # Of config.json the number is set, and told of, together with the sizes.
            lost = [line for line in lost if not line.startswith("pad_token_id ")]
            pad = _kept_pad(pair)
            if name != "config.json" and pad is not None and said.get("pad_token_id") is not None:
                settings[name] = {**(settings[name] or {}), "pad_token_id": pad}
        padded = _pad_by_eos(pair, said, settings[name] or {})
        for line in lost:
            if line.partition(" ")[0] not in padded:
                dropped.setdefault(line, []).append(name)
        notes |= {f"{key} is the end of text, for there is no token for padding" for key in padded}
    return sorted(notes) + [
        f"{line} ({' and '.join(files)}) has no counterpart in the new vocabulary and was dropped"
        for line, files in dropped.items()
    ]


def _pad_by_eos(pair: Pair, old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Pad by the end of text in models that cannot do without padding; return the keys.

    Encoders and encoder-decoders are made of batches, and decoders begin by that token at times.
    Where the model embeds the padding as zeros (``padding_idx``), only training would notice.
    """
    eos = pair.donor.vocabulary.roles.get("eos")
    keys: set[str] = set()
    ends = {"pad_token_id", "decoder_start_token_id"}
    ends -= {"pad_token_id"} if pair.layout.counts_from_pad else set()  # it stays
    if eos is None or pair.layout.causal or pair.alignment.own:
        return keys
    for before, after in zip(levels(old), levels(new), strict=False):
        for key in ends:
            if isinstance(after, dict) and before.get(key) is not None and after.get(key) is None:
                after[key] = eos
                keys.add(key)
    return keys


def _kept_pad(pair: Pair) -> int | None:
    """Find the padding of a model that counts more than tokens by it: its number stays."""
    found = (level.get("pad_token_id") for level in levels(_config(pair)))
    return next((number for number in found if number is not None), None)


def _with_ends(
    pair: Pair, settings: Mapping[str, dict[str, Any] | None], ends: list[int]
) -> dict[str, dict[str, Any]]:
    """Let generation end where the chat template ends a turn.

    Where there is no generation_config.json, transformers makes one from config.json; it is
    written only where that would not end, and for models that generate.
    """
    if not ends:
        return {}
    changed = {}
    eos = pair.donor.vocabulary.roles.get("eos")
    config = settings["config.json"] or {}
    if isinstance(config.get("eos_token_id"), list):
        changed["config.json"] = config = add_ends(config, ends)
    name = "generation_config.json"
    said = settings.get(name)
    if said is None:
        if not _generates(pair):
            return changed
        text = next((v for k in ("text_config",) if isinstance(v := config.get(k), dict)), {})
        keys = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        found = {key: config.get(key, text.get(key)) for key in keys}
        if pair.layout.counts_from_pad and not pair.alignment.own:
            found["pad_token_id"] = _kept_pad(pair)
        said = {key: value for key, value in found.items() if value is not None}
        if add_ends(said, ends, eos) == said:
            return changed
    changed[name] = add_ends(said, ends, eos)
    return changed


def _generates(pair: Pair) -> bool:
    """Tell whether the model writes text: decoders do, alone or behind an encoder; encoders not."""
    import transformers

    kind = getattr(transformers, pair.layout.model_class or "", None)
    return pair.layout.causal or (kind is not None and bool(kind.can_generate()))


def _chat(pair: Pair, recipe: Recipe) -> tuple[Mapping[str, str], list[int], list[str]]:
    """Read the chat templates that go along, where they end a turn, and what is odd about them.

    Raises:
        RecipeError: If another template than the donor's does not suit the new vocabulary.
    """
    whose = recipe.chat_template
    if whose == "none":
        return {}, [], []
    of_base = read_templates(pair.base.files)
    if whose == "donor":
        templates = read_templates(pair.donor.files)
    elif whose == "base":
        templates = of_base
    else:
        templates = read_template_file(whose)
    if not templates or (pair.alignment.own and templates == of_base):
        return templates, [], []
    vocabulary, tokens = pair.donor.vocabulary, named_tokens(pair.donor)
    turns = {name: read_turns(text, vocabulary, tokens) for name, text in templates.items()}
    called = {"donor": "the donor's chat template", "base": "the base's chat template"}.get(
        whose, f"the chat template {whose}"
    )
    notes = _faults(pair, whose, called, templates, turns)
    ends = [turn.end for turn in turns.values() if turn.end is not None]
    return templates, list(dict.fromkeys(ends)), notes


def _faults(
    pair: Pair, whose: str, called: str, templates: Mapping[str, str], turns: Mapping[str, Turns]
) -> list[str]:
    """Say what is wrong with chat templates.

    Raises:
        RecipeError: If another template than the donor's has a fault that spoils every chat.
    """
    donor = pair.donor.vocabulary
    others = () if whose == "donor" else tuple(pair.base.vocabulary.special_ids)
    faults, cut = spoiled(called, turns, donor, others)
    notes = []
    if faults and whose != "donor":
        way = "give a template with the donor's tokens" if whose != "base" else "use donor or none"
        raise RecipeError(f"chat_template: {'; '.join(faults)}; {way}")
    named = [m for m in cut_marks("\n".join(templates.values()), donor, others) if m not in cut]
    if named:
        notes.append(
            f"{called} names {listed(named)}, which the donor's tokenizer cuts into pieces"
        )
    return faults + notes


def write_settings(folder: Path, pair: Pair, beside: Beside) -> None:
    """Write the base's JSON files; unchanged ones byte for byte."""
    for name, said in beside.settings.items():
        if said is None:
            (folder / name).unlink(missing_ok=True)
        elif name in pair.base.files.names and said == pair.base.read_json(name):
            shutil.copyfile(pair.base.files.path(name), folder / name)
        else:
            write_json(folder / name, said)


def write_chat(folder: Path, pair: Pair, recipe: Recipe, beside: Beside) -> dict[str, str]:
    """Write the chat templates into a folder that holds the donor's tokenizer.

    Returns:
        SHA-256 of a template that lies in a file of the user's own, by the file's name.
    """
    if recipe.chat_template == "donor" or beside.templates == read_templates(pair.donor.files):
        copy_folder(pair.donor.files, folder)
        # A processor's template would not come along: the processor's files are the base's.
        same = pair.alignment.own and beside.templates == read_templates(pair.base.files)
        if beside.templates and not same and not _holds_chat(folder):
            place_templates(folder, beside.templates)
        return {}
    config = place_templates(folder, beside.templates)
    if config is not None:
        write_json(folder / "tokenizer_config.json", config)
    if recipe.chat_template in {"base", "none"}:
        return {}
    text = beside.templates[DEFAULT].encode()
    return {Path(recipe.chat_template).name: hashlib.sha256(text).hexdigest()}


def _holds_chat(folder: Path) -> bool:
    """Tell whether a folder holds a chat template where a tokenizer looks for one."""
    settings = folder / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    places = folder / FILE, folder / FOLDER
    return any(place.exists() for place in places) or bool(said.get("chat_template"))


def write_licences(folder: Path, pair: Pair) -> None:
    """Write the donor's licences beside the base's."""
    for name, path in donor_licences(pair.base, pair.donor).items():
        shutil.copyfile(path, folder / name)


def write_json(path: Path, said: dict[str, Any]) -> None:
    """Write JSON so that the same content gives the same bytes, whole or not at all."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial_path.replace(path)


def _config(pair: Pair) -> dict[str, Any]:
    """Return the base's config, with the defaults of its class said: they are the old ones."""
    config, alignment = pair.base.config, pair.alignment
    same = alignment.own and alignment.rows == alignment.base_rows
    return config if same else merged(config, pair.layout.unsaid)
