"""What all settings that are read from YAML have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Part(BaseModel):
    """A mapping of settings: no other keys than its own, and no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def as_list(said: Any) -> Any:
    """Make a list of one string; what is none is left for the check of types."""
    return [said] if isinstance(said, str) else said


Names = Annotated[list[str], BeforeValidator(as_list)]
"""A list of strings, or one."""
