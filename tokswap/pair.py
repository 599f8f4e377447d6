"""A base and a donor, opened and aligned: everything that is known before a weight is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tokswap.checkpoint.chat_template import FOLDER, read_template_file, read_templates
from tokswap.checkpoint.edited import EditedFiles
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.layout import Layout, check_sizes, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import check_tokens, load_table
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import MethodError, RecipeError, TokswapError
from tokswap.methods import Role, needing_donor
from tokswap.recipe import Recipe
from tokswap.recipe_parts import TokenizerPart
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.bos import KeptBos, keep_bos
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.planning import Tables


@dataclass(frozen=True, eq=False)
class Pair:
    """A base and a donor.

    Attributes:
        base: The checkpoint whose body is kept.
        donor: The checkpoint, or bare tokenizer, whose vocabulary is adopted.
        layout: Where the base keeps its vocabulary.
        donor_layout: Where the donor keeps its vocabulary; None where no method asks for it.
        alignment: The new vocabulary against the base's.
        kept_bos: What was added to the donor's tokenizer to keep the base's beginning of text.
    """

    base: Checkpoint
    donor: Checkpoint
    layout: Layout
    donor_layout: Layout | None
    alignment: Alignment
    kept_bos: KeptBos | None = None

    def tables(self) -> "Tables":
        """The tables to make a plan from, each loaded when a method asks for it.

        What a method finds of them is kept in them, so they are the same ones each time.
        """
        return self._tables

    @cached_property
    def _tables(self) -> "Tables":
        from tokswap.planning import Tables

        donor_layout = self.donor_layout

        def of_base(role: Role) -> "Tensor":
            return load_table(self.base, getattr(self.layout, role))

        def of_donor(role: Role) -> "Tensor":
            return load_table(self.donor, getattr(donor_layout, role))

        return Tables(
            base=of_base,
            donor=of_donor if donor_layout else None,
            tied=self.layout.tied,
            donor_tied=donor_layout is not None and donor_layout.tied,
            has_bias=any(self._is_bias(tensor) for tensor in self.layout.tensors),
        )

    def _is_bias(self, tensor: VocabTensor) -> bool:
        numbers = math.prod(self.base.info(tensor.name).shape)
        return tensor.role == "output" and numbers == tensor.rows


def open_pair(recipe: Recipe) -> Pair:
    """Open and align the base and the donor of a recipe.

    Raises:
        RecipeError: If the recipe names tokens or a chat template that are not there.
        MethodError: If the method needs weights that the donor does not have.
        TokswapError: If one of them cannot be had or is not supported.
    """
    base, donor, kept_bos = open_models(recipe)
    if recipe.needs_donor:
        check_weights(donor, recipe)
    pair = pair_of(base, donor, recipe, with_donor=recipe.needs_donor)
    return replace(pair, kept_bos=kept_bos)


def check_weights(donor: Checkpoint, recipe: Recipe) -> None:
    """Check that a donor has weights to read.

    Raises:
        MethodError: If it is a bare tokenizer.
    """
    if not donor.has_weights and not donor.other_weights:
        others = ", ".join(needing_donor(needed=False))
        raise MethodError(
            f"{recipe.label} reads the donor's weights and {donor.name!r} has none; give a model, "
            f"or choose a method that needs only its tokenizer: {others}"
        )


def find_donor_layout(donor: Checkpoint) -> Layout:
    """Find where a donor keeps its vocabulary.

    Raises:
        TokswapError: If it is not supported.
    """
    layout = find_layout(donor, tables_only=True)
    check_tokens(donor, layout.input)
    return layout


def pair_of(
    base: Checkpoint,
    donor: Checkpoint,
    recipe: Recipe,
    *,
    with_donor: bool,
    rows: int | None = None,
    grow_only: bool = False,
) -> Pair:
    """Align an opened base and donor.

    Args:
        base: The checkpoint whose body is kept.
        donor: The checkpoint, or bare tokenizer, whose vocabulary is adopted.
        recipe: What is asked for.
        with_donor: Whether the donor's weights will be read.
        rows: T, rows of the new tables; without it, as the recipe says.
        grow_only: Whether they are to have no fewer rows than the base's.

    Raises:
        RecipeError: If the recipe names tokens or a chat template that are not there.
        TokswapError: If one of both is not supported.
    """
    if recipe.chat_template not in {"donor", "base", "none"}:
        read_template_file(recipe.chat_template)  # while nothing has been done yet
    if recipe.chat_template == "base" and not read_templates(base.files):
        raise RecipeError(
            f"chat_template: {base.name!r} has no chat template to keep; use donor or none"
        )
    layout = find_layout(base, recipe.tensors.keep, recipe.tensors.drop)
    base_rows = check_sizes(base, layout)
    check_tokens(base, layout.input)
    if "generation_config.json" in base.files.names:
        base.read_json("generation_config.json")  # which is patched in the end
    donor_layout = find_donor_layout(donor) if with_donor else None
    return Pair(
        base=base,
        donor=donor,
        layout=layout,
        donor_layout=donor_layout,
        alignment=align(
            base.vocabulary,
            donor.vocabulary,
            base_rows=base_rows,
            rows=rows or new_rows(donor, recipe.tokenizer, base_rows if grow_only else 0),
            overrides=find_overrides(recipe, base.vocabulary, donor.vocabulary, base_rows),
            functions=recipe.tokenizer.known_functions,
        ),
    )


def open_models(recipe: Recipe) -> tuple[Checkpoint, Checkpoint, KeptBos | None]:
    """Open the base and the donor of a recipe, the donor's tokenizer as the recipe wants it.

    Returns:
        The base, the donor, and what was added to the donor to keep the base's beginning of text.

    Raises:
        RecipeError: If the base's beginning of text cannot be kept.
        TokswapError: If one of them cannot be had or is not supported.
    """
    base, donor = Checkpoint.open(recipe.base_model), Checkpoint.open(recipe.adopted)
    if recipe.tokenizer.bos == "donor":
        return base, donor, None
    donor, kept = with_kept_bos(base, donor)
    return base, donor, kept


def with_kept_bos(base: Checkpoint, donor: Checkpoint) -> tuple[Checkpoint, KeptBos]:
    """Add the base's beginning of text to a donor's tokenizer.

    Raises:
        RecipeError: If the base has none, or the donor begins texts already.
    """
    templates = (name for name in donor.files.below(FOLDER) if name.endswith(".jinja"))
    files = {name: donor.files.path(name) for name in sorted(templates)}
    files |= tokenizer_files(donor.files)
    kept = keep_bos(base.vocabulary, donor.vocabulary, files)
    return Checkpoint(EditedFiles(donor.files, kept.contents)), kept


def new_rows(donor: Checkpoint, said: TokenizerPart | None = None, least: int = 0) -> int:
    """Return T, the rows of the new vocabulary.

    Without another word they are as many as the donor's, padding included, for a draft model and
    its target must agree. A bare tokenizer says nothing of padding.

    Args:
        donor: The model or bare tokenizer to adopt.
        said: The size that a recipe asks for.
        least: Rows that there are to be at least.
    """
    said = said or TokenizerPart()
    rows = max(len(donor.vocabulary), least)
    if said.size == "donor" and "config.json" in donor.files.names:
        rows = max(rows, donor.vocab_size or 0)
    multiple = said.pad_to_multiple_of or 1
    return -(-rows // multiple) * multiple


def find_overrides(
    recipe: Recipe, base: Vocabulary, donor: Vocabulary, base_rows: int
) -> Mapping[int, list[int]]:
    """Find the tokens that the recipe's overrides name, the base's by donor id.

    Raises:
        RecipeError: If there are no such tokens; the message names all of them.
    """
    found: dict[int, list[int]] = {}
    faults: list[str] = []
    for text, override in recipe.tokenizer.tokens.items():
        try:
            number = donor.find(text)
            ids = [base.find(token) for token in override.tokens]
        except TokswapError as error:
            faults.append(str(error))
            continue
        faults += [
            f"{token!r} has no row in {base.name}; name another token"
            for token, source in zip(override.tokens, ids, strict=True)
            if source >= base_rows
        ]
        if number in found:
            faults.append(f"{text!r} is a token that is named twice; name it once")
        found[number] = ids
    if faults:
        head = "tokenizer.tokens: " if len(faults) == 1 else "tokenizer.tokens is not valid:\n  "
        raise RecipeError(head + "\n  ".join(faults))
    return found
