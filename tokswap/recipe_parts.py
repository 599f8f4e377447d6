"""The parts of a recipe that several things are asked with: tokens, tensors, what is measured."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tokswap.names import near
from tokswap.settings import Names, Part, as_list
from tokswap.vocabulary.functions import FUNCTIONS, with_tokens


def _token_source(said: Any) -> Any:
    words = as_list(said)
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError("give a base token, a list of base tokens, or `zero`")
    return said


class TokenOverride(Part):
    """Where the row of one token comes from, said by the user."""

    source: Annotated[str | list[str], BeforeValidator(_token_source)] = Field(
        description="a base token, a list of base tokens (their mean), or `zero`"
    )

    @property
    def tokens(self) -> list[str]:
        """The base tokens whose mean makes the row; none for zeros."""
        if isinstance(self.source, list):
            return self.source
        return [] if self.source == "zero" else [self.source]


def _function_tokens(said: Any) -> Any:
    if isinstance(said, bool):
        return {} if said else None
    functions = said if isinstance(said, dict) else {}
    if unknown := [str(name) for name in functions if name not in FUNCTIONS]:
        raise ValueError(
            f"{unknown[0]!r} is no function{near(unknown[0], list(FUNCTIONS))} "
            f"(known: {', '.join(FUNCTIONS)})"
        )
    return {name: as_list(tokens) for name, tokens in functions.items()} if functions else said


class TokenizerPart(Part):
    """What to change about the adopted vocabulary."""

    tokens: dict[str, TokenOverride] = Field(
        default_factory=dict, description="by donor token: where its row comes from"
    )
    size: Literal["donor", "tight"] = Field(
        default="donor",
        description="rows: as many as the donor stores, padding included, or no padding at all",
    )
    pad_to_multiple_of: int | None = Field(
        default=None,
        gt=0,
        le=1 << 20,
        description="round the number of rows up to a multiple of this",
    )
    bos: Literal["donor", "keep"] = Field(
        default="donor",
        description="`keep` begins texts with the base's token where the donor has none",
    )
    functions: Annotated[dict[str, list[str]] | None, BeforeValidator(_function_tokens)] = Field(
        default_factory=dict,
        description="special tokens by what they are for (turn_start, turn_end …), beside those "
        "that are known; or false to match none so",
    )

    @property
    def known_functions(self) -> Mapping[str, Sequence[str]]:
        """Special tokens by what they are for; empty where none are to be matched so."""
        return {} if self.functions is None else with_tokens(self.functions)


class TensorsPart(Part):
    """What becomes of stored tensors that this program does not know."""

    keep: Names = Field(
        default_factory=list, description="names of stored tensors to carry as they are"
    )
    drop: Names = Field(default_factory=list, description="names of stored tensors to leave out")


class EvalPart(Part):
    """How the base and the result are measured."""

    text: Names = Field(
        default_factory=list, description="text files to read; without them, the bundled sample"
    )
    window: int | None = Field(
        default=None,
        gt=1,
        description="tokens seen at once; without it, the model's limit, 1024 at most",
    )
    stride: int | None = Field(
        default=None,
        gt=0,
        description="tokens by which the window moves; without it, half a window",
    )

    @model_validator(mode="after")
    def _stride_within_window(self) -> "EvalPart":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(
                f"a stride of {self.stride} skips text in windows of {self.window}; lower it"
            )
        return self
