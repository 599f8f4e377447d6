"""What fills the missing rows, as a recipe says it: a method for both roles, or one for each."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from tokswap.methods import DEFAULT, ROLES, Method, Role
from tokswap.methods.asked import made, name_fault, setting_faults
from tokswap.settings import Part
from tokswap.vocabulary.kinds import KINDS


def _names(said: Any) -> Any:
    if isinstance(said, dict) and set(said) == set(ROLES):
        return said if said["input"] != said["output"] else said["input"]
    if not isinstance(said, str):
        raise ValueError(  # noqa: TRY004 - pydantic makes a fault of the recipe of it
            "give the name of a method, or one for each role as {input: METHOD, output: METHOD}"
        )
    return said


MethodNames = Annotated[str | dict[Role, str], BeforeValidator(_names)]
"""The name of a method, or one for each role."""


class Filling(Part):
    """Methods with their settings, by role."""

    method: MethodNames = Field(
        default=DEFAULT,
        description="how missing rows are filled: a method, or `{input: METHOD, output: METHOD}`",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="the method's settings; under `input:` and `output:` those of one role",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, said: Any) -> Any:
        return {"method": said} if isinstance(said, str) else said

    @model_validator(mode="after")
    def _methods_are_known(self) -> "Filling":
        faults = filling_faults({"method": self.method, "parameters": self.parameters})
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def methods(self) -> dict[Role, Method]:
        """The method of each role, with its settings."""
        return {role: made(self.names[role], self._settings(role)) for role in ROLES}

    @property
    def names(self) -> dict[Role, str]:
        """The name of the method of each role."""
        said = self.method
        return {role: said if isinstance(said, str) else said[role] for role in ROLES}

    @property
    def label(self) -> str:
        """What to call it: ``omp``, or ``pieces in, omp out``."""
        names = self.names
        same = names["input"] == names["output"]
        return names["input"] if same else f"{names['input']} in, {names['output']} out"

    def settled(self) -> dict[str, Any]:
        """The settings in full, JSON-ready, as ``parameters`` again."""
        methods = self.methods.items()
        full: dict[str, Any] = {role: method.model_dump(mode="json") for role, method in methods}
        alike = isinstance(self.method, str) and full["input"] == full["output"]
        return dict(full["input"]) if alike else full

    def _settings(self, role: Role) -> dict[str, Any]:
        common = {k: v for k, v in self.parameters.items() if k not in ROLES}
        return common | dict(self.parameters.get(role) or {})


def filling_faults(said: Mapping[str, Any], place: str = "") -> list[str]:
    """Tell what is wrong with methods and their settings, place by place.

    Args:
        said: ``method`` and ``parameters``, as yet unchecked.
        place: What stands before both in messages.
    """
    asked, parameters = said.get("method", DEFAULT), said.get("parameters") or {}
    by_role = isinstance(asked, dict) and set(asked) == set(ROLES)
    names = dict(asked) if by_role else dict.fromkeys(ROLES, asked)
    if not all(isinstance(name, str) for name in names.values()):
        return []  # the field's own validation says so
    unknown = {role: fault for role in ROLES if (fault := name_fault(names[role]))}
    if unknown:
        return list(dict.fromkeys(place + fault for fault in unknown.values()))
    if not isinstance(parameters, dict):
        return []
    place += "parameters."
    common = {key: value for key, value in parameters.items() if key not in ROLES}
    faults = []
    for name in dict.fromkeys(names.values()):
        of_one = place if not by_role else f"{place.removesuffix('.')} ({name})."
        faults += setting_faults(name, common, of_one)
    for role in ROLES:
        faults += setting_faults(names[role], parameters.get(role) or {}, f"{place}{role}.")
    return faults


def check_kinds(said: Any) -> Any:
    """Check the kinds of tokens that methods are given for.

    Raises:
        ValueError: If one is unknown; pydantic turns it into a fault of the recipe.
    """
    from tokswap.names import near

    kinds = said if isinstance(said, dict) else {}
    if unknown := [str(kind) for kind in kinds if kind not in KINDS]:
        raise ValueError(
            f"{unknown[0]!r} is no kind of token{near(unknown[0], list(KINDS))} "
            f"(known: {', '.join(KINDS)})"
        )
    return said
