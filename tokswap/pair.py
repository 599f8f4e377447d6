"""A base and a donor, opened and aligned: everything that is known before a weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokswap.checkpoint.layout import Layout, check_sizes, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import MethodError, RecipeError, TokswapError
from tokswap.methods import METHODS, Role
from tokswap.recipe import Recipe
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.special import levels
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
        width: D, the width of the base's tables.
        donor_layout: Where the donor keeps its vocabulary; None where no method asks for it.
        alignment: The new vocabulary against the base's.
    """

    base: Checkpoint
    donor: Checkpoint
    layout: Layout
    width: int
    donor_layout: Layout | None
    alignment: Alignment

    def tables(self) -> "Tables":
        """The tables to make a plan from, each loaded when a method asks for it."""
        from tokswap.planning import Tables

        donor_layout = self.donor_layout

        def of_base(role: Role) -> "Tensor":
            return self.base.load(getattr(self.layout, role))

        def of_donor(role: Role) -> "Tensor":
            return self.donor.load(getattr(donor_layout, role))

        return Tables(
            base=of_base,
            donor=of_donor if donor_layout else None,
            tied=self.layout.tied,
            donor_tied=bool(donor_layout and donor_layout.tied),
        )


def open_pair(recipe: Recipe) -> Pair:
    """Open and align the base and the donor of a recipe.

    Raises:
        MethodError: If the method needs weights that the donor does not have.
        TokswapError: If one of them cannot be had or is not supported.
    """
    base, donor = Checkpoint.open(recipe.base_model), Checkpoint.open(recipe.donor)
    needs_donor = METHODS[recipe.method].needs_donor
    if needs_donor and not donor.has_weights:
        others = ", ".join(name for name, kind in METHODS.items() if not kind.needs_donor)
        raise MethodError(
            f"{recipe.method} reads the donor's weights and {donor.name!r} has none; give a model, "
            f"or choose a method that needs only its tokenizer: {others}"
        )
    layout = find_layout(base)
    base_rows, width = check_sizes(base, layout)
    return Pair(
        base=base,
        donor=donor,
        layout=layout,
        width=width,
        donor_layout=find_layout(donor) if needs_donor else None,
        alignment=align(
            base.vocabulary,
            donor.vocabulary,
            base_rows=base_rows,
            rows=new_rows(donor, recipe.tokenizer.pad_to_multiple_of),
            overrides=_overrides(recipe, base.vocabulary, donor.vocabulary),
        ),
    )


def new_rows(donor: Checkpoint, multiple: int | None = None) -> int:
    """Return T: the donor's own number of rows, padding included, so that both agree.

    Args:
        donor: The model or bare tokenizer to adopt.
        multiple: Round up to a multiple of this.
    """
    rows = len(donor.vocabulary)
    if "config.json" in donor.files.names:
        sizes = [level.get("vocab_size") for level in levels(donor.config)]
        rows = max(rows, *(size for size in [*sizes, 0] if isinstance(size, int)))
    return rows if multiple is None else -(-rows // multiple) * multiple


def _overrides(recipe: Recipe, base: Vocabulary, donor: Vocabulary) -> Mapping[int, list[int]]:
    """Find the tokens that the recipe's overrides name.

    Raises:
        RecipeError: If there are no such tokens; the message names all of them.
    """
    found: dict[int, list[int]] = {}
    faults: list[str] = []
    for text, override in recipe.tokenizer.tokens.items():
        try:
            number = donor.find(text)
            found[number] = [base.find(token) for token in override.tokens]
        except TokswapError as error:
            faults.append(f"tokenizer.tokens: {error}")
    if faults:
        raise RecipeError("\n  ".join(faults))
    return found
