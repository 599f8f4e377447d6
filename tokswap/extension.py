"""A model with more tokens of its own: its tokenizer, extended, transplanted onto itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokswap.carry_out import Transplant, Work, carry_out
from tokswap.checkpoint.edited import EditedFiles
from tokswap.checkpoint.files import repeats_vocabulary, tokenizer_files
from tokswap.checkpoint.ids import is_id
from tokswap.checkpoint.settings import ID_KEYS
from tokswap.checkpoint.source import TEXT_CONFIGS, Checkpoint
from tokswap.errors import CheckpointError, MethodError, RecipeError
from tokswap.evaluation.measure import SAMPLE
from tokswap.evaluation.texts import file_text
from tokswap.firing import Firing, count_firing
from tokswap.methods import needing_donor
from tokswap.names import resolve
from tokswap.pair import Pair, pair_of
from tokswap.peak_memory import checked
from tokswap.pipeline import plan_for
from tokswap.recipe import Recipe, make_recipe
from tokswap.recipe_parts import TokenizerPart
from tokswap.vocabulary.extend import Extension, extend_vocabulary
from tokswap.vocabulary.extended import check_extended
from tokswap.vocabulary.token_list import read_tokens
from tokswap.vocabulary.tokens import Vocabulary
from tokswap.vocabulary.wanted import How

METHOD = {"method": "pieces", "parameters": {"strategy": "suited"}}
"""What fills the rows of new tokens where no method is named: by figures (docs/methods.md)."""

FIXED = ("base_model", "donor", "chat_template", "held_out", "text_only")
"""Keys of a recipe that have no say where a model keeps its own tokenizer."""


def extend(
    model: str,
    tokens: str | Path | Sequence[str],
    *,
    how: How = "merges",
    inside: bool = False,
    skip: bool = False,
    texts: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    **settings: Any,
) -> Transplant:
    """Add tokens to a model's own tokenizer, and rows for them to the model.

    Every token keeps its id and its row, bit for bit. New tokens take the ids behind the last one,
    and so the rows that a model may store without a token; the tables grow only where these do not
    suffice.

    Args:
        model: The model, by name.
        tokens: The new tokens as they stand in texts, or a file that lists them
            (:func:`~tokswap.vocabulary.token_list.read_tokens`).
        how: Whether the tokenizer's model makes them (``merges``), or they are added tokens, found
            before it (``added``).
        inside: See :func:`~tokswap.vocabulary.extend.extend_vocabulary`.
        skip: Leave out tokens that cannot be added, instead of refusing them.
        texts: Text files to count the new tokens on, and to measure on; the bundled sample without.
        overrides: ``key=value`` settings, as of a recipe.
        overwrite: Replace an earlier output of this program at the same place.
        **settings: Those fields of :class:`~tokswap.recipe.Recipe` that have a say: ``method`` and
            ``parameters`` (:data:`METHOD` without), ``per_kind``, ``tokenizer`` (its ``tokens`` and
            ``pad_to_multiple_of``), ``tensors``, ``dtype``, ``eval``, ``verify``, ``seed``,
            ``device``, ``memory``, ``out``.

    Returns:
        What was written and measured; ``record["extended"]`` has the new tokens and how often each
        fires.

    Raises:
        RecipeError: If a token cannot be added, there is nothing to add, or a setting is not valid.
        MethodError: If the method reads a donor's weights.
        TokswapError: As :func:`~tokswap.pipeline.transplant` does.
    """
    paths = [Path(path).expanduser() for path in texts]
    recipe = _recipe(model, paths, settings, overrides)
    listed = read_tokens(Path(tokens).expanduser()) if isinstance(tokens, str | Path) else tokens
    sources = [file_text(path) for path in paths or [SAMPLE]]  # a misspelt name is told at once
    base = Checkpoint.open(model)
    record: dict[str, Any] = {}

    def open_both() -> tuple[Pair, list[str]]:
        found = extend_vocabulary(
            base.vocabulary,
            tokenizer_files(base.files),
            listed,
            how=how,
            inside=inside,
            skip=skip,
        )
        stale = sorted(filter(repeats_vocabulary, base.files.names))
        donor = Checkpoint(EditedFiles(base.files, found.contents, stale))
        check_extended(base.vocabulary, donor.vocabulary, found)
        _check_ids(base, donor.vocabulary)
        pair = checked(pair_of(base, donor, recipe, with_donor=False, grow_only=True), recipe)
        firing = count_firing(base.vocabulary, donor.vocabulary, found, sources)
        record["extended"] = _said(found, donor.vocabulary, stale, firing)
        return pair, _notes(found, donor.vocabulary, stale)

    work = Work(
        sources=[base],
        target=Path(recipe.out or f"{resolve(model).short}-extended").expanduser(),
        open=open_both,
        plan=lambda pair, device, blocks: (plan_for(pair, recipe, device, blocks), []),
        record=lambda: record,
    )
    return carry_out(recipe, work, overwrite=overwrite)


def _recipe(
    model: str, texts: Sequence[Path], settings: dict[str, Any], overrides: Sequence[str]
) -> Recipe:
    """Make the recipe: a transplant of the model's tokenizer onto the model.

    Raises:
        RecipeError: If it is not valid, or says what is settled.
        MethodError: If the method reads a donor's weights, or changes rows that are to stay.
    """
    names = {"base_model": model, "donor": model}
    said = {key: value for key, value in settings.items() if value is not None}
    if texts and "eval" not in said:
        said["eval"] = {"text": [str(path) for path in texts]}
    named = "method" in said or any(override.startswith("method=") for override in overrides)
    recipe = make_recipe(({} if named else METHOD) | names | said, overrides)
    settled, part = make_recipe(names), TokenizerPart()
    fixed = [key for key in FIXED if getattr(recipe, key) != getattr(settled, key)]
    fixed += [
        f"tokenizer.{key}"
        for key in ("size", "bos", "functions")
        if getattr(recipe.tokenizer, key) != getattr(part, key)
    ]
    if fixed:
        raise RecipeError(
            f"{' and '.join(fixed)} cannot be set, for the model keeps its own tokenizer; leave it "
            "out, or use `tokswap transplant`"
        )
    if recipe.needs_donor:
        others = ", ".join(needing_donor(needed=False))
        raise MethodError(
            f"{recipe.label} reads a donor's weights, and there is no donor of tokens that a model "
            f"is to have beyond its own; choose another method: {others}"
        )
    if any(method.fills_shared for method in recipe.methods.values()):
        raise MethodError(
            f"{recipe.label} is to fill the rows of tokens that {model!r} has, and an extended "
            "model keeps them; use `method.shared=copy`"
        )
    return recipe


def _check_ids(base: Checkpoint, new: Vocabulary) -> None:
    """Check that the model means nothing by the ids that new tokens get.

    Raises:
        CheckpointError: If it does: some models know a token that their tokenizer does not.
    """
    parts = [base.config, *(base.config.get(name) for name in TEXT_CONFIGS)]
    for part in parts:
        for key, value in (part if isinstance(part, dict) else {}).items():
            listed = value if isinstance(value, list) else [value]
            taken = [n for n in listed if is_id(n) and len(base.vocabulary) <= n < len(new)]
            if key.endswith(ID_KEYS) and taken:
                raise CheckpointError(
                    f"config.json of {base.name!r} names token {taken[0]} ({key}), which its "
                    "tokenizer lacks and a new token would become; add that token to the tokenizer "
                    "first, or mend config.json"
                )


def _said(
    found: Extension, new: Vocabulary, stale: Sequence[str], firing: Firing
) -> dict[str, Any]:
    """What the record says of it."""
    return {
        "as": found.how,
        "tokens": dict(found.tokens),
        "intermediates": {new.show(number): number for number in found.intermediates},
        "bridges": {new.show(number): number for number in found.bridges},
        "merges": found.merges,
        "left_out": dict(found.left_out),
        "files_left_out": list(stale),
        "firing": firing.to_dict(),
    }


def _notes(found: Extension, new: Vocabulary, stale: Sequence[str]) -> list[str]:
    """What the user should know of it."""
    notes = []
    if found.left_out:
        token, reason = next(iter(found.left_out.items()))
        what = _counted(len(found.left_out), "token is", "tokens are")
        notes.append(f"{what} left out, the first: {token!r}, {reason}")
    if found.intermediates:
        what = _counted(len(found.intermediates), "further token is", "further tokens are")
        notes.append(
            f"{what} needed to make them, {_first(new, found.intermediates)}; such tokens stand in "
            "other texts too"
        )
    if found.bridges:
        what = _counted(len(found.bridges), "old token is", "old tokens are")
        notes.append(
            f"{what} made of other pieces too, {_first(new, found.bridges)}; that changes other "
            "texts"
        )
    if stale:
        verb = "is" if len(stale) == 1 else "are"
        notes.append(
            f"{', '.join(stale)} would say otherwise than tokenizer.json and {verb} left out"
        )
    return notes


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _first(new: Vocabulary, ids: Sequence[int]) -> str:
    among = "among them " if len(ids) > 3 else ""
    return among + ", ".join(new.show(number) for number in ids[:3])
