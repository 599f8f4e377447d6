"""A transplanted base serves its fine-tunes: by the same rows, and by what it was taught since.

    rows:  W · fine_tune + (transplanted - W · base)
    body:  fine_tune + strength · (transplanted - base)

Where nobody has trained the transplanted base, both differences are nothing, and the result is
what its plan makes of the fine-tune (:mod:`tokswap.application`), bit for bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokswap import ranks
from tokswap.application import fitted, provenance
from tokswap.blocks import Blocks
from tokswap.carry_out import Transplant, Work, carry_out
from tokswap.chat_marks import own_chat_fault
from tokswap.checkpoint.body import Body, check_addable, check_bodies
from tokswap.checkpoint.chat_template import read_templates
from tokswap.checkpoint.difference import Difference, added, compare
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.unclaimed import VocabTensor, same
from tokswap.checkpoint.writer import Replacement
from tokswap.donor_or_like import STRENGTH
from tokswap.errors import CheckpointError
from tokswap.estimate import Estimate, Fetch, estimate, single_tensors, whole_files
from tokswap.fitting import base_fault
from tokswap.new_tensors import hashed, replacements
from tokswap.pair import Pair, pair_of
from tokswap.pipeline import default_out
from tokswap.plan import Plan
from tokswap.recipe import Recipe
from tokswap.report.like import body_line, far_lines, like_record, plan_line, rows_line
from tokswap.trained_rows import TrainedTable, find_trained, trained_blocks
from tokswap.transplanted import open_transplanted

if TYPE_CHECKING:
    from torch import Tensor


def transplant_like(recipe: Recipe, *, overwrite: bool = False) -> Transplant:
    """Give a fine-tune the vocabulary that its base was given, by the same rows.

    Args:
        recipe: What to do; it has a ``like``.
        overwrite: Replace an earlier output of this program at the same place.

    Returns:
        What was written and measured.

    Raises:
        TokswapError: As :func:`~tokswap.pipeline.transplant` does; also if the three models do not
            belong together, or a difference cannot be added to the fine-tune.
    """
    run = FineTune(recipe)
    work = Work(
        sources=[run.fine, run.made.like, run.made.original],
        target=Path(recipe.out or default_out(recipe)).expanduser(),
        open=run.open,
        plan=run.look,
        record=run.record,
        estimate=run.estimate,
        tensors=run.tensors,
    )
    return carry_out(run.recipe, work, overwrite=overwrite)


class FineTune:
    """A fine-tune on its way: opened, compared, written, each when the pipeline comes to it.

    Attributes:
        fine: The fine-tune.
        made: The transplanted base, and what it was made of.
        recipe: What was asked for, with what it leaves open settled.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.fine = Checkpoint.open(recipe.base_model)
        self.made = open_transplanted(recipe)
        self._told: list[str] = []
        self._tables: dict[str, TrainedTable] = {}
        self._difference: Difference | None = None
        self._plan: Plan | None = None
        settled: dict[str, Any] = {
            "original": self.made.original.name,
            "strength": STRENGTH if recipe.strength is None else recipe.strength,
        }
        if "chat_template" not in recipe.model_fields_set:
            settled["chat_template"] = self._whose_chat()
        self.recipe = recipe.model_copy(update=settled)

    @property
    def strength(self) -> float:
        """The part of the difference of the bodies that is added."""
        return self.recipe.strength or 0.0

    def _whose_chat(self) -> str:
        """Choose the chat template: the fine-tune's own, which it was taught, where it suits."""
        fine, like = self.fine, self.made.like
        if not read_templates(fine.files):
            return "donor"
        if fault := own_chat_fault(fine, like):
            instead = f"that of {like.name}" if read_templates(like.files) else "none"
            self._told.append(f"{fault}, so {instead} goes along (--chat-template has more)")
            return "donor"
        return "base"

    def align(self) -> tuple[Pair, list[str]]:
        """Open the fine-tune with the new vocabulary, by the headers and the tokenizers alone.

        Raises:
            CheckpointError: If the three models do not belong together.
        """
        fine, made = self.fine, self.made
        if fault := base_fault(made.plan, fine.vocabulary):
            raise CheckpointError(
                f"{fine.name!r} is no fine-tune of {made.original.name!r}, of which "
                f"{made.like.name!r} was made, for its vocabulary is another: {fault}; give a "
                "fine-tune of that base"
            )
        pair = pair_of(fine, made.like, self.recipe, with_donor=False, rows=made.plan.rows)
        self._check_widths(pair)
        check_bodies(self._body(pair), *self._bodies, strength=self.strength)
        pair, self._plan, notes = fitted(made.plan, made.sha256, pair, self.recipe)
        return pair, [*notes, *self._told, *plan_line(self.made)]

    def open(self) -> tuple[Pair, list[str]]:
        """Open the fine-tune, and look which rows were trained further.

        Raises:
            CheckpointError: If they cannot serve the fine-tune.
        """
        pair, notes = self.align()
        if ranks.number():  # only the first rank writes
            return pair, notes
        for tensor in pair.layout.tensors:
            if both := self._tables_of(tensor, pair):
                self._tables[tensor.name] = find_trained(self.made, *both)
        moved = np.zeros(pair.alignment.rows, dtype=bool)
        for name, table in self._trained.items():
            moved[: len(table.moved)] |= table.moved.numpy()
            notes.append(rows_line(self.made, name, table))
        layouts = self.made.layout, self.made.original_layout
        if self._trained and pair.layout.tied and not all(layout.tied for layout in layouts):
            raise CheckpointError(
                f"the head of {self.fine.name!r} is its embedding (tied), and "
                f"{self.made.like.name!r} has trained rows for each of both; give a fine-tune with "
                "a head of its own"
            )
        source = np.where(moved, -1, pair.alignment.source)
        return replace(pair, alignment=replace(pair.alignment, source=source)), notes

    def look(self, pair: Pair, _device: str, _blocks: Blocks) -> tuple[Plan, list[str]]:
        """Compare the bodies, where any of the difference is to be added.

        Raises:
            CheckpointError: If they differ, and nothing can be added to the fine-tune.
        """
        assert self._plan is not None  # noqa: S101 - the pipeline has called align() before
        if ranks.number():
            return self._plan, []
        if self.strength:
            for checkpoint in (self.made.original, self.made.like):
                checkpoint.files.fetch(checkpoint.shards)
            self._difference = compare(*self._bodies)
            check_addable(self._changed, self._body(pair), *self._bodies)
        notes = [body_line(self.made, self._difference, self.strength)]
        if self._trained or self._changed:
            notes += far_lines(self.made, self._difference, self.fine, pair.layout)
        if not self._trained:
            return self._plan, notes
        further = {name: table.count for name, table in self._trained.items()}
        about = {**self._plan.about, "further": {"like": self.made.like.name, "rows": further}}
        return replace(self._plan, about=about), notes

    def tensors(
        self, pair: Pair, plan: Plan, recipe: Recipe, hashes: dict[str, str]
    ) -> Mapping[str, Replacement]:
        """Say what takes the place of which of the fine-tune's tensors."""
        found = replacements(pair, plan, recipe, hashes)
        for tensor in pair.layout.tensors:
            if table := self._trained.get(tensor.name):
                blocks = partial(
                    trained_blocks, self.fine, tensor, plan, self.made, table, recipe.dtype
                )
                make = partial(_hashed_later, tensor.name, blocks, hashes)
                found[tensor.name] = replace(found[tensor.name], make=make)
        fine = self._body(pair)
        for name in self._changed:
            stored = fine.names[name]
            info = self.fine.stored_info(stored)
            blocks = partial(added, fine, *self._bodies, name, self.strength)
            make = partial(_hashed_later, stored, blocks, hashes)
            found[stored] = Replacement(info.dtype, info.shape, make)
        return found

    def record(self) -> dict[str, Any]:
        """What the record says of it."""
        made = self.made
        said: dict[str, Any] = {
            "kept_bos": made.plan.about.get("kept_bos"),
            "like": like_record(made, self._tables, self._difference),
        }
        if made.sha256 is not None:
            said["plan"] = provenance(made.plan, made.sha256)
        return said

    def estimate(self, pair: Pair, recipe: Recipe, *, plan_only: bool = False) -> Estimate:
        """Estimate what will be fetched, computed and written."""
        return estimate(
            pair, recipe, plan_only=plan_only, plan=self.made.plan_bytes, also=self._fetches()
        )

    def _fetches(self) -> Iterator[Fetch]:
        made = self.made
        for model, checkpoint, layout in (
            ("donor", made.like, made.layout),
            ("original", made.original, made.original_layout),
        ):
            if self.strength:
                yield from whole_files(model, checkpoint, checkpoint.shards)
            else:
                yield from single_tensors(model, checkpoint, layout.names)

    def _body(self, pair: Pair) -> Body:
        """The body of the fine-tune."""
        return Body(self.fine, pair.layout.body)

    @property
    def _bodies(self) -> tuple[Body, Body]:
        """The bodies of the original base and of the transplanted one."""
        made = self.made
        return (
            Body(made.original, made.original_layout.body),
            Body(made.like, made.layout.body),
        )

    @property
    def _trained(self) -> dict[str, TrainedTable]:
        """The tables with rows that were trained further, by their names in the fine-tune."""
        return {name: table for name, table in self._tables.items() if table.count}

    @property
    def _changed(self) -> tuple[str, ...]:
        """The model's own names of the tensors of the body to which something is added."""
        return self._difference.changed if self._difference else ()

    def _tables_of(self, tensor: VocabTensor, pair: Pair) -> tuple[VocabTensor, VocabTensor] | None:
        """Find a vocabulary tensor in both other models.

        A copy that only the fine-tune stores goes with the table that it is a copy of.
        """
        both = self.made.tables_of(tensor, pair.layout)
        table = next(t for t in pair.layout.tensors if t.name == getattr(pair.layout, tensor.role))
        if both is None and same(self.fine, table.name, tensor.name):
            both = self.made.tables_of(table, pair.layout)
        return both

    def _check_widths(self, pair: Pair) -> None:
        """Check that the fine-tune's tables are as wide as those of its base.

        Raises:
            CheckpointError: If they are not.
        """
        original, layout = self.made.original, self.made.original_layout
        own, wanted = (
            checkpoint.info(where.input).shape[1]
            for checkpoint, where in ((self.fine, pair.layout), (original, layout))
        )
        if own != wanted:
            raise CheckpointError(
                f"{self.fine.name!r} is no fine-tune of {original.name!r}: its width is {own} and "
                f"not {wanted}; a model of another size can be given the vocabulary by `tokswap "
                "apply`"
            )


def _hashed_later(
    name: str, blocks: "partial[Iterator[Tensor]]", hashes: dict[str, str]
) -> "Iterator[Tensor]":
    """Compute a tensor when its turn comes, and note its hash."""
    return hashed(name, blocks(), hashes)
