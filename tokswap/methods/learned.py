"""The settings of methods that learn from a text."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _as_list(said: Any) -> Any:
    return [said] if isinstance(said, str) else said


Texts = Annotated[list[str], BeforeValidator(_as_list)]
"""Paths of text files; a recipe may give one as it is."""

Dimension = Annotated[int, Field(gt=0, description="numbers in a fastText vector")]
Epochs = Annotated[int, Field(gt=0, description="passes over the text")]
MinimumCount = Annotated[
    int, Field(gt=0, description="what occurs less often in the text has no vector")
]
