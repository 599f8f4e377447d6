"""A transplanted base that shall serve fine-tunes: what it was made of, and by which plan."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from tokswap.checkpoint.layout import Layout, check_sizes, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import load_table
from tokswap.checkpoint.target import RECORD
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import CheckpointError, NameUnknownError, RecipeError
from tokswap.fitting import base_fault, check_donor, fit, identities
from tokswap.methods import ROLES, Role
from tokswap.names import resolve
from tokswap.plan import PLAN_FILE, Plan, RolePlan
from tokswap.planning import role_plan
from tokswap.recipe import Recipe
from tokswap.vocabulary.align import align
from tokswap.vocabulary.identity import content_hash


@dataclass(frozen=True, eq=False)
class Transplanted:
    """A transplanted base with what it was made of.

    Attributes:
        like: The transplanted base, as it is now.
        layout: Where it keeps its vocabulary.
        original: The base that it was made of.
        original_layout: Where that one keeps its vocabulary.
        plan: What made its rows, for the original base.
        sha256: Hash of the plan's file; None where there was none and the plan was worked out.
    """

    like: Checkpoint
    layout: Layout
    original: Checkpoint
    original_layout: Layout
    plan: Plan
    sha256: str | None

    @property
    def plan_bytes(self) -> int:
        """Bytes that the plan takes in a file, about."""
        parts = {id(part): part for part in self.plan.roles.values()}.values()
        sparse = [rows for part in parts for rows in (part.weights, part.averages)]
        size = sum(8 * (len(rows) + len(rows.weights)) for rows in sparse)
        held = sum(4 * part.dense_rows.numel() for part in parts)
        return size + held + self.plan.rows + sum(4 * len(n) for n in self.plan.tokens.values())

    def tables_of(
        self, tensor: VocabTensor, layout: Layout
    ) -> tuple[VocabTensor, VocabTensor] | None:
        """Find a fine-tune's vocabulary tensor in the transplanted base and in the original.

        Args:
            tensor: The tensor.
            layout: Where the fine-tune keeps its vocabulary.

        Returns:
            The tensor in both, or None where one of them does not store it.
        """
        found = [
            _table_of(tensor, layout, checkpoint, other)
            for checkpoint, other in (
                (self.like, self.layout),
                (self.original, self.original_layout),
            )
        ]
        ours, theirs = found
        return (ours, theirs) if ours and theirs else None


def open_transplanted(recipe: Recipe) -> Transplanted:
    """Open the transplanted base of a recipe, the base that it was made of, and its plan.

    Raises:
        RecipeError: If nothing says which base it was made of.
        CheckpointError: If there are no weights, or the models do not belong together.
        TokswapError: If one of them cannot be had.
    """
    like = Checkpoint.open(recipe.like or "")
    if not like.has_weights and not like.other_weights:
        raise CheckpointError(
            f"{like.name!r} holds no weights, so it is no transplanted base; give the folder of "
            "one, or put a plan alone onto the fine-tune with `tokswap apply`"
        )
    record = like.read_json(RECORD) if RECORD in like.files.names else {}
    plan = Plan.load(like.files.path(PLAN_FILE)) if PLAN_FILE in like.files.names else None
    original = _original(like, recipe.original, record, plan)
    layouts = [_layout(checkpoint, recipe) for checkpoint in (like, original)]
    if plan is None:
        made, sha256 = _worked_out(like, layouts[0], original, layouts[1]), None
    else:
        made = _fitted(plan, like, original, layouts[1])
        data = like.files.path(PLAN_FILE).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
    return Transplanted(like, layouts[0], original, layouts[1], made, sha256)


def _layout(checkpoint: Checkpoint, recipe: Recipe) -> Layout:
    stored = checkpoint.shard_of
    keep, drop = (
        [name for name in names if name in stored]
        for names in (recipe.tensors.keep, recipe.tensors.drop)
    )
    return find_layout(checkpoint, keep, drop, tables_only=True)


def _original(
    like: Checkpoint, said: str | None, record: Mapping[str, Any], plan: Plan | None
) -> Checkpoint:
    """Open the base that a transplanted one was made of.

    Raises:
        RecipeError: If nothing says which it is.
        NameUnknownError: If it is not to be had.
    """
    if said is not None:
        return Checkpoint.open(said)
    try:
        name = recorded_base(record, plan.about if plan else {})
        if name is None:
            raise RecipeError(
                f"original: {like.name!r} does not say of which base it was made ({RECORD} is "
                "gone, as trainers leave it out); name that base with --original"
            )
        original = Checkpoint.open(name)
        original.files.names  # noqa: B018 - asks whether it is there
    except NameUnknownError as error:
        raise NameUnknownError(
            f"the base that {like.name!r} was made of is not to be had ({error}); name it with "
            "--original"
        ) from error
    return original


def recorded_base(record: Mapping[str, Any], about: Mapping[str, Any]) -> str | None:
    """Name the base of a transplant, with the commit that was used of it on the Hub.

    Args:
        record: What tokswap.json holds.
        about: What the plan says of itself.

    Returns:
        The name, or None where neither says.

    Raises:
        NameUnknownError: If the name stands for nothing any more.
    """
    name = _part(record, "recipe").get("base_model") or _part(about, "base").get("name")
    commit = _part(record, "revisions").get("base")
    if isinstance(name, str) and isinstance(commit, str):
        location = resolve(name)
        if location.kind == "hub":
            return f"{location.target}@{commit}"
    return name if isinstance(name, str) else None


def _part(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = said.get(key)
    return part if isinstance(part, dict) else {}


def _fitted(plan: Plan, like: Checkpoint, original: Checkpoint, layout: Layout) -> Plan:
    """Cut a saved plan to the original base's rows.

    Raises:
        CheckpointError: If it is for another tokenizer or another base.
    """
    check_donor(plan, like.vocabulary)
    if fault := base_fault(plan, original.vocabulary):
        raise CheckpointError(
            f"{like.name!r} was not made of {original.name!r}, whose vocabulary is another: "
            f"{fault}; name the base that it was made of with --original"
        )
    return fit(plan, original.vocabulary, check_sizes(original, layout))


def _worked_out(
    like: Checkpoint, layout: Layout, original: Checkpoint, original_layout: Layout
) -> Plan:
    """Work a plan out where a trainer has left none.

    Tokens that both vocabularies share came of the base's rows; the others' rows are held as they
    are now, for what they came of is not to be seen any more.

    Raises:
        CheckpointError: If the tokenizer has more ids than the model has rows.
    """
    rows = check_sizes(like, layout)
    if rows < len(like.vocabulary):
        raise CheckpointError(
            f"{like.name}: its tokenizer has {len(like.vocabulary):,} ids and {layout.input} has "
            f"{rows:,} rows; give the tokenizer that belongs to the model"
        )
    alignment = align(
        original.vocabulary,
        like.vocabulary,
        base_rows=check_sizes(original, original_layout),
        rows=rows,
    )
    missing = [int(number) for number in alignment.missing]
    tied = layout.tied and original_layout.tied
    roles: dict[Role, RolePlan] = {}
    for role in ROLES[:1] if tied else ROLES:
        held = load_table(like, getattr(layout, role))[missing].float()
        split = {} if tied or role == "output" else alignment.input_source
        roles[role] = role_plan(alignment, role, missing, held, split, tied=tied)
    base, donor = original.vocabulary, like.vocabulary
    about = {
        side: {"name": which.name, "sha256": content_hash(which)}
        for side, which in (("base", base), ("donor", donor))
    }
    return Plan(roles, torch.from_numpy(alignment.kind.copy()), about, identities(base, donor))


def _table_of(
    tensor: VocabTensor, layout: Layout, checkpoint: Checkpoint, other: Layout
) -> VocabTensor | None:
    """Find a tensor in another checkpoint: tables by their roles, the rest by its name."""
    name = next(
        (getattr(other, role) for role in ROLES if tensor.name == getattr(layout, role)),
        tensor.name,
    )
    if name not in checkpoint.names:
        return None
    return replace(tensor, name=name, rows=checkpoint.info(name).shape[tensor.axis])
