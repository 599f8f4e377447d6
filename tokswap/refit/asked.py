"""What a recipe says of a refit: the text, how much of it, and what is to be done with it."""

from typing import Any

from pydantic import Field, model_validator

from tokswap.settings import Names, Part

TOKENS = 150_000
"""Tokens that are read without another word: more gain little (docs/refit.md has the figures)."""
STRENGTHS = (300.0, 100.0, 30.0, 10.0)
"""Strengths of the pull among which held-out text decides, the strongest first."""


class RefitPart(Part):
    """How the rows that a method has made are refitted to text."""

    text: Names = Field(
        default_factory=list, description="text files, like what the model is meant for"
    )
    datasets: Names = Field(
        default_factory=list,
        description="datasets to stream, as ID[:CONFIG[:SPLIT]]; `train` without a split",
    )
    written: int | None = Field(
        default=None,
        ge=0,
        description="tokens of text that the base writes itself, which keep rows fit for what a "
        "text does not hold; without it, a third of the text, of a short one as much. It will do "
        "without any text",
    )
    tokens: int = Field(
        default=TOKENS, ge=256, description="the donor's tokens that are read, at most"
    )
    window: int | None = Field(
        default=None,
        gt=1,
        description="tokens seen at once; without it, what the base has positions for, 256 at most",
    )
    output: bool = Field(default=True, description="whether to refit the rows of the head")
    blend: bool = Field(
        default=True,
        description="whether to look how much of its last piece the embedding of each kind of "
        "token should hold, by reading alone",
    )
    match: float = Field(
        default=0.0,
        ge=0,
        strict=False,
        description="minutes in which rows of the embedding learn, through the frozen body, to "
        "lead to the states that the tokens' pieces lead to",
    )
    steps: int | None = Field(
        default=None, gt=0, description="steps of that, in place of `match`'s minutes"
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        strict=False,
        description="of the pull towards the method's rows; without it, one of "
        f"{', '.join(f'{s:g}' for s in STRENGTHS)}, which held-out text decides",
    )

    @model_validator(mode="after")
    def _has_text(self) -> "RefitPart":
        if not self.text and not self.datasets and not self.written:
            raise ValueError(
                "give text files as `text` (--refit), `datasets`, or `written: N` "
                "(--refit-written) for text by the base itself"
            )
        return self


def asked_refit(texts: list[str] | None, minutes: float | None, written: int | None) -> Any:
    """Say in the words of a recipe what the command line asks for; None where it asks nothing."""
    said: dict[str, Any] = {}
    if texts:
        said["text"] = texts
    if written:
        said["written"] = written
    if minutes is not None:
        said["match"] = minutes
    return said or None
