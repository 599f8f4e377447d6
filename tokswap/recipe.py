"""A recipe: what to transplant, how, and where to. YAML in, a validated object out.

The command line's flags make the same object, so `transplant` and `run` are one code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tokswap.donor_or_like import SETTLED, STRENGTH, WITH_LIKE, like_faults
from tokswap.errors import RecipeError
from tokswap.filling import Filling, MethodNames, check_kinds, filling_faults
from tokswap.memory import parse_size
from tokswap.methods import DEFAULT, Method, Role
from tokswap.methods.asked import fault_line
from tokswap.methods.by_kind import ByKind
from tokswap.recipe_parts import EvalPart, TensorsPart, TokenizerPart
from tokswap.refit.asked import RefitPart
from tokswap.settings import Part
from tokswap.vocabulary.kinds import KINDS
from tokswap.yaml_text import read_mapping, with_setting

HELD_OUT = 256
"""Anchors that are held out without another word."""


def _template(said: Any) -> Any:
    if said not in {"donor", "base", "none"} and not str(said).endswith(".jinja"):
        raise ValueError(f"give donor, base, none or the path of a .jinja file, given {said!r}")
    return said


def _size(said: Any) -> Any:
    """Check a size, which YAML reads as a number where it has no unit."""
    if said is not None:
        said = str(said)
        parse_size(said)
    return said


def _switch(said: Any) -> Any:
    return ({} if said else None) if isinstance(said, bool) else said


def _count(said: Any) -> Any:
    if isinstance(said, bool):
        return HELD_OUT if said else 0
    if said != "all" and not (isinstance(said, int) and said >= 0):
        raise ValueError(f"give a number of anchors, all, or false, given {said!r}")
    return said


class Recipe(Part):
    """Everything that decides the bytes of an output folder, and where it goes."""

    base_model: str = Field(min_length=1, description="the model whose body is kept")
    donor: str | None = Field(
        default=None,
        min_length=1,
        description="the model or tokenizer to adopt; needed, unless there is a `like`",
    )
    like: str | None = Field(
        default=None,
        min_length=1,
        description="in place of a donor: the transplanted base of which `base_model` is a "
        "fine-tune, to be given the same vocabulary by the same rows",
    )
    original: str | None = Field(
        default=None,
        min_length=1,
        description="the base that `like` was made of; without it, the one that its record names",
    )
    strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the part that is added of what training has changed in the body of `like`; "
        f"without it, {STRENGTH}",
    )
    method: MethodNames = Field(
        default=DEFAULT,
        description="how missing rows are filled: a method, or `{input: METHOD, output: METHOD}`",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="the method's settings; under `input:` and `output:` those of one role",
    )
    per_kind: Annotated[dict[str, Filling], BeforeValidator(check_kinds)] = Field(
        default_factory=dict,
        description="other methods for some kinds of tokens, as `digits: pieces` or `{method:, "
        f"parameters:}}`; the first kind that fits counts: {', '.join(KINDS)}",
    )
    refit: RefitPart | None = Field(
        default=None,
        description="text to which the rows are then refitted, the body frozen; without it, they "
        "stay as the method makes them",
    )
    dtype: Literal["float64", "float32", "float16", "bfloat16"] | None = Field(
        default=None,
        description="type of the written vocabulary tensors; without it, as in the base",
    )
    tokenizer: TokenizerPart = Field(
        default_factory=TokenizerPart, description="what to change about the adopted vocabulary"
    )
    tensors: TensorsPart = Field(
        default_factory=TensorsPart,
        description="what becomes of stored tensors of the vocabulary's size that are not known",
    )
    chat_template: Annotated[str, BeforeValidator(_template)] = Field(
        default="donor",
        description="whose chat template goes along: donor, base, none, or a .jinja file; with "
        "`like`, the base's own without another word, if the new tokenizer reads it as it is meant",
    )
    text_only: bool = Field(
        default=False,
        description="go on where the donor lacks the base's tokens for pictures, films or sound",
    )
    eval: Annotated[EvalPart | None, BeforeValidator(_switch)] = Field(
        default_factory=EvalPart, description="how to measure, or false"
    )
    held_out: Annotated[int | Literal["all"], BeforeValidator(_count)] = Field(
        default=HELD_OUT,
        union_mode="left_to_right",
        description="anchors that a method on the donor's weights fills from the others, to tell "
        "how well rows carry over: a number, `all`, or 0 or false for none",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of methods that draw at random")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="where to compute: auto, cpu, cuda, cuda:N or mps",
    )
    memory: Annotated[str | None, BeforeValidator(_size)] = Field(
        default=None,
        description="what `omp` and `hypernet` may take at once, such as 4GB, 512MB or 2GiB; "
        "without it, half of what there is. It changes no row but by rounding",
    )
    verify: bool = Field(default=True, description="load the result in a fresh process")
    out: str | None = Field(
        default=None, description="the folder to write; without it, BASE-DONOR-METHOD here"
    )

    @model_validator(mode="after")
    def _method_is_known(self) -> "Recipe":
        faults = _method_faults({"method": self.method, "parameters": self.parameters})
        faults += like_faults(self.model_dump(exclude_defaults=True))
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def adopted(self) -> str:
        """The name of what the vocabulary is taken from: the donor, or a transplanted base."""
        return self.donor or self.like or ""

    @property
    def filling(self) -> Filling:
        """What fills the rows of all tokens for whose kind nothing else is said."""
        return Filling(method=self.method, parameters=self.parameters)

    @property
    def methods(self) -> dict[Role, Method]:
        """The method of each role, with its settings."""
        methods = self.filling.methods
        if not self.per_kind:
            return methods
        parts = {kind: part.methods for kind, part in self.per_kind.items()}
        return {
            role: ByKind(rest=method, kinds={kind: part[role] for kind, part in parts.items()})
            for role, method in methods.items()
        }

    @property
    def label(self) -> str:
        """What to call the methods: ``omp``, ``pieces in, omp out; digits by mean``."""
        if self.like:
            return self.like
        kinds = [f"{kind} by {part.label}" for kind, part in self.per_kind.items()]
        return "; ".join([self.filling.label, *kinds])

    @property
    def needs_donor(self) -> bool:
        """Whether the donor's weights are read in any role."""
        return any(method.needs_donor for method in self.methods.values())

    def record(self) -> dict[str, Any]:
        """Everything that decides the bytes of the result, JSON-ready.

        That is all but ``out`` and ``memory``, and without what does not go with a donor or with
        a transplanted base in its place.

        The record is a recipe again: :func:`make_recipe` of it gives this one back.
        """
        other = {"donor", *SETTLED} if self.like else {"like", *WITH_LIKE}
        said = self.model_dump(mode="json", exclude={"out", "parameters", "memory", *other})
        said["eval"] = said["eval"] or False  # None would mean the default
        if self.like:
            return said
        for kind, part in self.per_kind.items():
            said["per_kind"][kind]["parameters"] = part.settled()
        return said | {"parameters": self.filling.settled()}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: The YAML file.
        overrides: ``key.path=value`` settings that replace or add to the file's, values as YAML.

    Raises:
        RecipeError: If the file cannot be read, or the recipe is not valid; the message names
            every fault with its place.
    """
    return make_recipe(read_mapping(Path(path)), overrides, called=str(path))


def make_recipe(
    said: Mapping[str, Any], overrides: Sequence[str] = (), *, called: str = "the request"
) -> Recipe:
    """Validate a recipe.

    Args:
        said: The recipe's keys and values.
        overrides: ``key.path=value`` settings; see :func:`load_recipe`.
        called: What to call the recipe in messages.

    Raises:
        RecipeError: If the recipe is not valid; the message names every fault with its place, each
            on a line of its own where there are several.
    """
    said = {key: value for key, value in said.items() if value is not None}
    for override in overrides:
        said = with_setting(said, override)
    faults = _method_faults(said) + like_faults(said)
    recipe = None
    try:
        recipe = Recipe(**said)
    except ValidationError as error:
        known = list(Recipe.model_fields)
        faults = [fault_line(e, known) for e in error.errors() if _is_its_own(e)] + faults
    except TypeError as error:  # keys that are no strings
        faults = [f"keys must be strings ({error})", *faults]
    if recipe is None or faults:
        faults = list(dict.fromkeys(faults))
        between = " " if len(faults) == 1 else "\n  "
        raise RecipeError(between.join([f"{called} is not valid:", *faults]))
    return recipe


def with_tensors(recipe: Recipe, keep: Sequence[str] | None, drop: Sequence[str] | None) -> Recipe:
    """Add the names of tensors to keep and to drop, which are no YAML and may hold any sign."""
    part = TensorsPart(
        keep=list(dict.fromkeys([*recipe.tensors.keep, *(keep or ())])),
        drop=list(dict.fromkeys([*recipe.tensors.drop, *(drop or ())])),
    )
    return recipe.model_copy(update={"tensors": part})


def _is_its_own(entry: Any) -> bool:
    """Tell whether a fault is the recipe's own: those of methods are found place by place."""
    place = entry["loc"]
    of_kind = len(place) > 1 and place[0] == "per_kind"
    return bool(place) and not (of_kind and entry["type"] == "value_error")


def _method_faults(said: Mapping[str, Any]) -> list[str]:
    """Check the methods and their settings apart from the rest of the recipe."""
    faults = filling_faults(said)
    kinds = said.get("per_kind")
    for kind, part in (kinds if isinstance(kinds, dict) else {}).items():
        of_kind = {"method": part} if isinstance(part, str) else part
        if isinstance(of_kind, dict):
            faults += filling_faults(of_kind, f"per_kind.{kind}.")
    return faults
