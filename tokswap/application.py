"""A saved plan onto another base: a fine-tune, a larger sibling, a quantised copy."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tokswap.carry_out import Transplant, Work, carry_out
from tokswap.checkpoint.files import open_files
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError, NameUnknownError, OutputError, RecipeError
from tokswap.fitting import as_planned, check_base, check_donor, fit, identities
from tokswap.methods import Role
from tokswap.names import Location, resolve
from tokswap.pair import Pair, pair_of, with_kept_bos
from tokswap.pipeline import OF_A_RUN
from tokswap.plan import Plan, plan_file
from tokswap.recipe import Recipe, make_recipe
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Kind
from tokswap.vocabulary.bos import opening
from tokswap.vocabulary.identity import content_hash

TO_SAY = OF_A_RUN | {"chat_template", "out", "tensors", "text_only"}
"""Keys of a recipe that are free where the plan is made already."""


@dataclass(frozen=True, eq=False)
class Saved:
    """A plan that was read from a file.

    Attributes:
        path: The file.
        plan: What it holds.
        sha256: Hash of the file.
    """

    path: Path
    plan: Plan
    sha256: str

    @property
    def has_files(self) -> bool:
        """Whether the donor's tokenizer lies beside the plan, in an output folder."""
        return (self.path.resolve().parent / "tokenizer.json").is_file()

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe that the plan was made by, without what has no part in a plan.

        Raises:
            CheckpointError: If the plan does not say.
        """
        said = self.plan.about.get("recipe")
        if not isinstance(said, dict):
            raise CheckpointError(
                f"{self.path} does not say what it was made for; make it again with "
                "`tokswap transplant --plan-only`"
            )
        return said


def apply(
    plan: str | Path,
    base_model: str,
    *,
    donor: str | None = None,
    overrides: list[str] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Transplant:
    """Apply a saved plan to a model with the vocabulary that it was made for.

    Args:
        plan: An output folder, or its plan file.
        base_model: The model whose body is kept, by name.
        donor: Where the donor's tokenizer files are; without it the plan's own folder, or else
            the donor that the plan names.
        overrides: ``key=value`` settings, as of a recipe.
        overwrite: Replace an earlier output of this program at the same place.
        **settings: Those fields of :class:`~tokswap.recipe.Recipe` that have no part in the
            plan: ``out``, ``eval``, ``verify``, ``dtype``, ``device``, ``chat_template``,
            ``tensors``, ``text_only``.

    Returns:
        What was written and measured.

    Raises:
        CheckpointError: If the plan is for another vocabulary, or not fit for this base.
        OutputError: If the plan lies in the folder that is to be written.
        TokswapError: As :func:`~tokswap.pipeline.transplant` does.
    """
    saved = _read(plan_file(plan))
    recipe = _recipe(saved, base_model, donor, settings, overrides or [])
    base = Checkpoint.open(base_model)
    tokenizer = _donor(saved, recipe, donor, base)
    target = Path(recipe.out or _default_out(saved, recipe)).expanduser()
    if target.resolve() in saved.path.resolve().parents:
        raise OutputError(f"the plan lies in the output {target}; choose another output")
    if saved.path.resolve().parent in target.resolve().parents and saved.has_files:
        raise OutputError(f"the output {target} lies in the plan's folder; choose another output")
    cut: list[Plan] = []

    def open_both() -> tuple[Pair, list[str]]:
        check_donor(saved.plan, tokenizer.vocabulary)
        check_base(saved.plan, base.vocabulary)  # before the layout: the commonest mistake
        opened = pair_of(base, tokenizer, recipe, with_donor=False, rows=saved.plan.rows)
        pair, made, notes = fitted(saved.plan, saved.sha256, opened, recipe)
        cut.append(made)
        return pair, notes

    work = Work(
        sources=[base, tokenizer],
        target=target,
        open=open_both,
        plan=lambda _pair, _device, _blocks: (cut[-1], []),
        record=lambda: {
            "plan": provenance(saved.plan, saved.sha256),
            "kept_bos": saved.plan.about.get("kept_bos"),
        },
    )
    return carry_out(recipe, work, overwrite=overwrite)


def _read(path: Path) -> Saved:
    plan = Plan.load(path)
    with path.open("rb") as file:
        return Saved(path, plan, hashlib.file_digest(file, "sha256").hexdigest())


def _recipe(
    saved: Saved,
    base_model: str,
    donor: str | None,
    settings: Mapping[str, Any],
    overrides: list[str],
) -> Recipe:
    """Make the recipe of this run: the plan's, for another base.

    Raises:
        RecipeError: If it is not valid, or changes what the plan has settled.
    """
    about_files = {"tensors", "text_only"}  # of the plan's own base
    said = {k: v for k, v in saved.recipe.items() if k not in about_files}
    said |= {"base_model": base_model}
    said |= {"donor": donor} if donor else {}
    wanted = {key: value for key, value in settings.items() if value is not None}
    recipe = make_recipe(said | wanted, overrides)
    settled = make_recipe(said).record()
    fixed = [k for k, v in recipe.record().items() if k not in TO_SAY and v != settled[k]]
    if fixed:
        raise RecipeError(
            f"{' and '.join(fixed)} cannot be changed, for the plan's rows are made; make another "
            "plan with `tokswap transplant`"
        )
    return recipe


def _donor(saved: Saved, recipe: Recipe, said: str | None, base: Checkpoint) -> Checkpoint:
    """Open the donor's tokenizer: as the user says, beside the plan, or as the plan says.

    Raises:
        NameUnknownError: If it is not to be had.
    """
    if said is None and saved.has_files:
        folder = str(saved.path.resolve().parent)
        return Checkpoint(open_files(Location(recipe.adopted, "folder", folder)))
    try:
        donor = Checkpoint.open(recipe.adopted)
        donor.files.names  # noqa: B018 - asks whether it is there
    except NameUnknownError as error:
        if said is not None:
            raise
        raise NameUnknownError(
            f"no tokenizer.json lies beside {saved.path} and the donor that it names is not to be "
            f"had ({error}); name it with --donor"
        ) from error
    if recipe.tokenizer.bos == "keep" and not opening(donor.vocabulary):
        return with_kept_bos(base, donor)[0]
    return donor


def _default_out(saved: Saved, recipe: Recipe) -> str:
    """Name an output folder from the base and the folder that the plan lies in."""
    return f"{resolve(recipe.base_model).short}-{saved.path.resolve().parent.name}"


def provenance(plan: Plan, sha256: str | None) -> dict[str, Any]:
    """Tell the record where a plan comes from that was not made in this run."""
    said = {key: plan.about.get(key) for key in ("base", "donor", "recipe")}
    return {"sha256": sha256, **said}


def fitted(
    plan: Plan, sha256: str | None, pair: Pair, recipe: Recipe
) -> tuple[Pair, Plan, list[str]]:
    """Cut a plan to a base and a tokenizer, and give the pair the plan's word on its rows.

    Args:
        plan: What makes the rows.
        sha256: Hash of the plan's file, if it was read from one.
        pair: The base and the donor.
        recipe: What is asked for.

    Returns:
        The pair, the plan for its base, and what the user should know of it.

    Raises:
        CheckpointError: If the plan is not for them.
    """
    base, donor, rows = pair.base, pair.donor, pair.alignment.base_rows
    notes = check_base(plan, base.vocabulary, base_rows=rows)
    _check_widths(plan, pair)
    notes += _role_notes(plan, pair, recipe)
    cut = fit(_for_one_table(plan) if pair.layout.tied else plan, base.vocabulary, rows)
    about = {
        **plan.about,
        "base": {"name": base.name, "sha256": content_hash(base.vocabulary)},
        "applied": {"sha256": sha256, "base": plan.about.get("base")},
    }
    tokens = identities(base.vocabulary, donor.vocabulary)
    cut = replace(cut, about=about, tokens=tokens)
    return replace(pair, alignment=as_planned(pair.alignment, cut)), cut, notes


def _for_one_table(plan: Plan) -> Plan:
    """Make a plan of two roles one for the single table of a tied base.

    Rows are made as the input role says, but for a token that opens and closes texts: in one table
    it must close them, as the head's row does.
    """
    if plan.roles.get("output", plan.roles["input"]) is plan.roles["input"]:
        return plan
    opens, closes = plan.copied("input"), plan.copied("output")
    differ = (plan.kind == Kind.SPECIAL) & (opens != closes)
    part = plan.roles["input"]

    def chosen(source: Tensor) -> SparseRows:
        return SparseRows.selection(source.masked_fill(~differ, -1), part.weights.columns)

    weights = part.weights.combine(chosen(opens), 1, -1).combine(chosen(closes), 1, 1)
    return replace(plan, roles={"input": replace(part, weights=weights)})


def _check_widths(plan: Plan, pair: Pair) -> None:
    """Refuse rows that are held as they are for tables of another width.

    Raises:
        CheckpointError: If there are any.
    """
    roles: tuple[Role, Role] = ("input", "output")
    for role in roles:
        part = plan.roles.get(role, plan.roles["input"])
        width = pair.base.info(getattr(pair.layout, role)).shape[1]
        if len(part.dense_ids) and part.dense_rows.shape[1] != width:
            raise CheckpointError(
                f"the plan holds {role} rows of width {part.dense_rows.shape[1]}, as the method "
                f"{plan.about['recipe'].get('method')} makes them, and those of {pair.base.name!r} "
                f"have width {width}; make a plan for this base with `tokswap transplant`"
            )


def _role_notes(plan: Plan, pair: Pair, recipe: Recipe) -> list[str]:
    """Tell where the plan has other roles than the base."""
    name, tied = pair.base.name, pair.layout.tied
    if "output" not in plan.roles and not tied:
        return [
            f"the plan is of a base with one table for both roles (tied) and {name} has a head of "
            "its own: the head's rows are combined as the plan says of the embedding's"
        ]
    both = plan.roles.get("output", plan.roles["input"]) is not plan.roles["input"]
    if both and tied and recipe.methods["input"] == recipe.methods["output"]:
        return [
            f"the head of {name} is its embedding (tied), so one table is made as the plan says of "
            "the input role; what it says of the output role is not used"
        ]
    return []
