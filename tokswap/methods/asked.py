"""A method as a recipe asks for it: a name and settings, checked place by place."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from tokswap.names import near
from tokswap.settings import Part

if TYPE_CHECKING:
    from tokswap.methods.base import Method

PLAIN_WORDS = {
    "missing": "is missing",
    "string_too_short": "is empty",
    "model_type": "give a mapping of settings, or false",
    "string_pattern_mismatch": "give auto, cpu, cuda, cuda:N or mps",
}
"""What some of pydantic's faults are called here, by their types."""


class Asked(Part):
    """A method with its settings, which are written out in full."""

    method: str = Field(description="its name")
    parameters: dict[str, Any] = Field(default_factory=dict, description="its settings")

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, said: Any) -> Any:
        if isinstance(said, str):
            said = {"method": said}
        if not isinstance(said, dict) or not isinstance(said.get("method"), str):
            return said
        own = said.get("parameters") or {}
        if faults := setting_faults(said["method"], own, "parameters."):
            raise ValueError("; ".join(faults))
        return said | {"parameters": made(said["method"], own).model_dump(mode="json")}

    @property
    def made(self) -> "Method":
        """The method."""
        return made(self.method, self.parameters)


def made(name: str, settings: Mapping[str, Any]) -> "Method":
    """Make a method whose name and settings are known to be right."""
    from tokswap.methods import METHODS

    return METHODS[name](**{str(key): value for key, value in settings.items()})


def name_fault(name: str) -> str | None:
    """Tell what is wrong with the name of a method, if anything is."""
    from tokswap.methods import METHODS

    if name in METHODS:
        return None
    return f"method: {name!r} is unknown{near(name, list(METHODS))} (known: {', '.join(METHODS)})"


def setting_faults(name: str, settings: Any, place: str) -> list[str]:
    """Tell what is wrong with a method and its settings, a line each.

    Args:
        name: The method's name.
        settings: Its settings.
        place: What stands before their keys in messages, with a point at its end.
    """
    from tokswap.methods import METHODS

    if fault := name_fault(name):
        return [fault]
    if not isinstance(settings, dict):
        return [f"{place.removesuffix('.')}: give settings as `key: value`"]
    try:
        made(name, settings)
    except ValidationError as error:
        known = list(METHODS[name].model_fields)
        # What is wrong with several settings at once has no key.
        places = (
            (place if entry["loc"] else place.removesuffix("."), entry) for entry in error.errors()
        )
        return [before + fault_line(entry, known) for before, entry in places]
    return []


def fault_line(entry: Any, known: list[str]) -> str:
    """Say in one line what pydantic has found.

    Args:
        entry: One of its errors.
        known: The keys that there are, of which one may have been meant.
    """
    place = ".".join(str(part) for part in entry["loc"])
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        message = "unknown key"
        message += near(place, known) if len(entry["loc"]) == 1 else ""
        message += " (`methods` is a key of `tokswap compare`)" if place == "methods" else ""
    elif entry["type"] == "model_type" and entry["loc"][0] == "per_kind":
        message = f"give a method, or `{{method:, parameters:}}`, given {entry['input']!r}"
    elif entry["type"] in PLAIN_WORDS:
        message = PLAIN_WORDS[entry["type"]]
        if entry["type"] != "missing":
            message += f", given {entry['input']!r}"
    elif entry["type"] != "value_error":
        message += f", given {entry['input']!r}"
    return f"{place}: {message}"
