"""What to compare: a base, a donor, methods with values to try, and the text to measure on."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tokswap.comparison.runs import Run, by_default, draws, shown, unlike
from tokswap.comparison.sweeps import variants, with_texts
from tokswap.errors import RecipeError
from tokswap.memory import parse_size
from tokswap.methods import DEFAULT
from tokswap.names import near, resolve
from tokswap.recipe import Recipe, make_recipe
from tokswap.recipe_parts import EvalPart, TensorsPart, TokenizerPart
from tokswap.refit.asked import RefitPart
from tokswap.settings import Names, Part
from tokswap.yaml_text import read_mapping, with_setting

OF_A_TRANSPLANT = ("dtype", "chat_template", "text_only", "held_out", "verify")
"""Keys of a transplant's recipe that have no part in a comparison."""
BETWEEN = re.compile(r"; (?=methods\.\d+\.)")
"""What stands between two faults of methods."""
OF_ONE_METHOD = ("method", "parameters", "per_kind")
"""Keys of a transplant's recipe that say how rows are filled."""


class Entry(Part):
    """A method to compare, with its settings."""

    method: str | dict[str, str] = Field(
        description="a method, or `{input: METHOD, output: METHOD}`, as in a transplant's recipe"
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="the method's settings; a list stands for several values, which are all tried",
    )
    per_kind: dict[str, Any] = Field(
        default_factory=dict, description="other methods for some kinds of tokens"
    )
    label: str | None = Field(
        default=None,
        min_length=1,
        description="what to call it; without it, the method and what is set",
    )


def entries_of(said: Any) -> Any:
    """Give the methods that are named, as a list of mappings; what is none is left as it is."""
    listed = [said] if isinstance(said, str | dict) else said
    if not isinstance(listed, list):
        return said
    return [{"method": entry} if isinstance(entry, str) else entry for entry in listed]


def _seeds(said: Any) -> Any:
    listed = said if isinstance(said, list) else [said]
    if not listed:
        raise ValueError("the list is empty; give one seed or more")
    if not all(type(seed) is int and 0 <= seed < 2**63 for seed in listed):
        raise ValueError(f"give whole numbers from 0 on, given {said!r}")
    return list(dict.fromkeys(listed))


def _measured(said: Any) -> Any:
    return {} if isinstance(said, bool) else said


def _size(said: Any) -> Any:
    if said is not None:
        said = str(said)
        parse_size(said)
    return said


class Comparison(Part):
    """Methods to compare on one pair, and how."""

    base_model: str = Field(min_length=1, description="the model whose body is kept")
    donor: str = Field(min_length=1, description="the model or tokenizer to adopt")
    methods: Annotated[list[Entry] | None, BeforeValidator(entries_of)] = Field(
        default=None,
        description="what to compare: names, or `{method:, parameters:, per_kind:, label:}`; "
        "without it, every method that needs no settings, but `pieces` under one name",
    )
    train_text: Names = Field(
        default_factory=list,
        description="text files for the methods that learn from text and name none of their own",
    )
    eval: Annotated[EvalPart, BeforeValidator(_measured)] = Field(
        default_factory=EvalPart, description="what to measure on, and how"
    )
    refit: RefitPart | None = Field(
        default=None,
        description="text to which every method's rows are refitted too, for a second column",
    )
    tokenizer: TokenizerPart = Field(
        default_factory=TokenizerPart, description="what to change about the adopted vocabulary"
    )
    tensors: TensorsPart = Field(
        default_factory=TensorsPart,
        description="what becomes of stored tensors of the vocabulary's size that are not known",
    )
    seed: Annotated[list[int], BeforeValidator(_seeds)] = Field(
        default_factory=lambda: [0],
        description="seed, or a list of seeds: methods that draw at random are run with each, "
        "and their mean and spread are shown",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="where to compute: auto, cpu, cuda, cuda:N or mps",
    )
    memory: Annotated[str | None, BeforeValidator(_size)] = Field(
        default=None,
        description="what `omp` and `hypernet` may take at once, such as 4GB; without it, half of "
        "what there is",
    )
    out: str | None = Field(
        default=None, description="the folder to write; without it, BASE-DONOR-compare here"
    )

    @model_validator(mode="after")
    def _runs_are_valid(self) -> "Comparison":
        if self.methods is not None and not self.methods:
            raise ValueError("methods: the list is empty; name one method or more")
        self.runs  # noqa: B018 - whose faults are this one's
        return self

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every method with every combination of values and, where it draws, every seed.

        Raises:
            ValueError: If one is not valid; the message names every fault with its place.
        """
        entries = self.methods
        if entries is None:
            entries = [Entry(method=name) for name in by_default()]
        faults: list[str] = []
        found: list[tuple[str, str, list[Recipe]]] = []
        for number, entry in enumerate(entries):
            place = f"methods.{number}" if len(entries) > 1 or self.methods else "methods"
            try:
                for variant in variants(entry.method, entry.parameters):
                    recipes = self._recipes(
                        {
                            "method": entry.method,
                            "parameters": dict(variant.parameters),
                            "per_kind": entry.per_kind,
                        }
                    )
                    name = recipes[0].label
                    words = [shown(recipes[0]), variant.label]
                    if entry.label:
                        words = [entry.label, variant.swept]
                    label = " ".join(filter(None, words))
                    found.append((label, name, recipes))
            except RecipeError as error:
                lines = str(error).partition("is not valid:")[2].splitlines()
                faults += [f"{place}.{line.strip()}" for line in lines if line.strip()]
            except ValueError as error:
                faults.append(f"{place}.parameters.{error}")
        if faults:
            raise ValueError("; ".join(dict.fromkeys(faults)))
        labels = unlike([label for label, _, _ in found])
        return tuple(
            Run(label, name, recipe, len(recipes) > 1 or draws(recipe))
            for label, (_, name, recipes) in zip(labels, found, strict=True)
            for recipe in recipes
        )

    def _recipes(self, said: Mapping[str, Any]) -> list[Recipe]:
        """Make the recipes of one method, one for each seed that matters."""
        common = {
            "base_model": self.base_model,
            "donor": self.donor,
            "eval": self.eval,
            "refit": self.refit,
            "tokenizer": self.tokenizer,
            "tensors": self.tensors,
            "device": self.device,
            "memory": self.memory,
            "held_out": False,
            "verify": False,
        }
        said = {**common, **with_texts(said, self.train_text)}
        first = make_recipe({**said, "seed": self.seed[0]})
        if len(self.seed) == 1 or not draws(first):
            return [first]
        return [first, *(make_recipe({**said, "seed": seed}) for seed in self.seed[1:])]

    @property
    def target(self) -> Path:
        """The folder to write."""
        if self.out is not None:
            return Path(self.out).expanduser()
        base, donor = resolve(self.base_model), resolve(self.donor)
        return Path(f"{base.short}-{donor.short}-compare")

    def record(self) -> dict[str, Any]:
        """What was asked for, JSON-ready: a comparison again, without ``out`` and ``memory``."""
        return self.model_dump(mode="json", exclude={"out", "memory"})


def read_comparison(path: Path) -> dict[str, Any]:
    """Read what to compare from a YAML file, unchecked.

    A transplant's recipe will do; then the results go beside its output, to ``OUT-compare``.

    Raises:
        RecipeError: If the file cannot be read or is no mapping.
    """
    said = read_mapping(path)
    if "methods" not in said and isinstance(said.get("out"), str):
        said["out"] += "-compare"
    return said


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read what to compare from a YAML file; a transplant's recipe will do.

    Args:
        path: The file.
        overrides: ``key.path=value`` settings that replace the file's.

    Raises:
        RecipeError: If the file cannot be read, or what it says is not valid.
    """
    return make_comparison(read_comparison(Path(path)), overrides, called=str(path))


def make_comparison(
    said: Mapping[str, Any], overrides: Sequence[str] = (), *, called: str = "the comparison"
) -> Comparison:
    """Validate what to compare.

    A transplant's recipe will do: its method is what is tried, with all the values that its
    settings list.

    Args:
        said: Keys and values.
        overrides: ``key.path=value`` settings that replace them, values as YAML.
        called: What to call it in messages.

    Raises:
        RecipeError: If it is not valid; the message names every fault with its place.
    """
    given = {key: value for key, value in said.items() if value is not None}
    for override in overrides:
        given = with_setting(given, override)
    one = {key: given.pop(key) for key in OF_ONE_METHOD if key in given}
    faults = []
    if one and "methods" in given:
        faults.append(
            f"{next(iter(one))}: stands beside `methods`; put it into one of its entries, or give "
            "--sweep METHOD.KEY=VALUE"
        )
    elif one:
        given["methods"] = [{"method": DEFAULT, **one}]
    if "methods" not in said:
        given = {key: value for key, value in given.items() if key not in OF_A_TRANSPLANT}
    try:
        made = Comparison(**given)
    except ValidationError as error:
        faults += [_line(entry) for entry in error.errors()]
    except TypeError as error:  # keys that are no strings
        faults.append(f"keys must be strings ({error})")
    if faults:
        if one:  # there is no list of methods in what the user has written
            faults = [fault.replace("methods.0.", "") for fault in faults]
        lines = list(dict.fromkeys(part for line in faults for part in BETWEEN.split(line)))
        between = " " if len(lines) == 1 else "\n  "
        raise RecipeError(between.join([f"{called} is not valid:", *lines]))
    return made


def _line(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"])
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        known = list(Comparison.model_fields if len(entry["loc"]) == 1 else Entry.model_fields)
        message = f"unknown key{near(str(entry['loc'][-1]), known)}"
    elif entry["type"] == "missing":
        message = "is missing"
    elif entry["type"] == "string_pattern_mismatch":
        message = f"give auto, cpu, cuda, cuda:N or mps, given {entry['input']!r}"
    elif entry["type"] != "value_error":
        message += f", given {entry['input']!r}"
    return f"{place}: {message}" if place else message
