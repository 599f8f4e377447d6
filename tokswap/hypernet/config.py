"""The settings of a hypernetwork, under the names that published checkpoints store them by."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokswap.errors import CheckpointError

POSITIONS = 514
"""Rows of the table of positions: roberta-base's, whose encoder layers are used."""

MUST_BE = {
    "hn_model_type": "roberta",
    "hn_embed_using_source_embeddings": True,
    "hn_concat_last_hidden_state": False,
    "hn_add_inter_token_attention": False,
    "hn_inter_token_attention_bias_by_priors": False,
    "hn_inter_token_attention_bias_by_source": False,
    "hn_embed_target_priors": False,
    "hn_language_adapter_bottleneck_dim": 0,
    "hn_n_inter_token_blocks": 0,
}
"""What has to be set so, where it is said at all: other kinds were never published with weights."""

USUAL = {"hn_inter_token_attention_bias_by_priors": True, "hn_n_inter_token_blocks": 16}
"""Settings of parts that are off: they stand in files and change nothing."""


class HypernetConfig(BaseModel):
    """What decides the shape of a hypernetwork.

    Sizes: **V** rows of the base that it reads, **d** the base's width, **D** its own width, **F**
    that of its inner layers, **L** pieces of a token, **n_in** numbers read for each piece: d for
    a tied base, 2d (the embedding's row, then the head's) for another.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    n_embd: int = Field(gt=0, description="d, the base's width")
    hn_hidden_size: int = Field(gt=0, description="D")
    hn_intermediate_size: int = Field(gt=0, description="F")
    hn_n_layers: int = Field(default=3, ge=0, le=256, description="encoder layers")
    hn_num_attention_heads: int | None = Field(
        default=None, gt=0, description="heads; without it, one for each 64 of D"
    )
    hn_surface_maxlen: int = Field(default=16, gt=0, le=POSITIONS, description="L")
    hn_rescale_embeddings: bool = Field(default=False, description="whether there are rescalers")
    hn_predict_bias: bool = Field(default=True, description="whether there is a head for a bias")
    hn_single_head: bool = Field(default=False, description="one head makes both roles' rows")
    hn_embed_lang_id: bool = Field(default=False, description="whether it is told the language")
    n_langs: int | None = Field(default=None, ge=0, description="languages that it knows")
    langs: list[str] | None = Field(default=None, description="their names")
    hn_n_extra_tokens: int = Field(
        default=0, ge=0, description="tokens of its tokenizer that the base has no rows for"
    )
    original_vocab_size: int = Field(gt=0, description="V")
    pad_token_id: int = Field(ge=0, description="stands behind the pieces of short tokens")
    separate_out_embeddings: bool = Field(description="whether the base has a head of its own")

    @model_validator(mode="after")
    def _fits_together(self) -> "HypernetConfig":
        if self.hn_hidden_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.hn_hidden_size}")
        if self.hn_embed_lang_id and not self.n_langs:
            raise ValueError("hn_embed_lang_id is set, and n_langs does not say how many there are")
        if self.langs is not None and self.hn_embed_lang_id and len(self.langs) != self.n_langs:
            raise ValueError(
                f"langs names {len(self.langs)} languages, and n_langs is {self.n_langs}"
            )
        return self

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.hn_num_attention_heads or max(self.hn_hidden_size // 64, 1)

    @property
    def read(self) -> int:
        """n_in, numbers that are read for each piece."""
        return self.n_embd * (2 if self.separate_out_embeddings else 1)

    @property
    def two_heads(self) -> bool:
        """Whether the rows of the base's head are made by a projection of their own."""
        return self.separate_out_embeddings and not self.hn_single_head

    @property
    def languages(self) -> int:
        """Languages that it is told apart; 0 where it is told none."""
        return (self.n_langs or 0) if self.hn_embed_lang_id else 0

    @property
    def extra(self) -> int:
        """Rows of its own for tokens that the base has none for; at least one is stored."""
        return max(self.hn_n_extra_tokens, 1)


def read_config(said: Mapping[str, Any], name: str) -> HypernetConfig:
    """Read the settings out of a checkpoint's config.json.

    Args:
        said: The file's content: the base's settings, and those of the hypernetwork.
        name: What messages call the checkpoint.

    Raises:
        CheckpointError: If it is no hypernetwork's, of a kind that is not supported, or not valid.
    """
    if not any(key.startswith("hn_") for key in said):
        raise CheckpointError(
            f"{name} is no hypernetwork: its config.json has none of the settings hn_*; give a "
            "checkpoint of Zero-Shot Tokenizer Transfer, or one of `tokswap hypernet train`"
        )
    inter_token = bool(said.get("hn_add_inter_token_attention"))
    for key, wanted in MUST_BE.items():
        given = said.get(key, wanted)
        off = key in USUAL and not inter_token
        if (given or wanted) != wanted and not off:
            raise CheckpointError(
                f"{name} has {key}: {given!r}, which is not supported ({wanted!r} is); give a "
                "hypernetwork of the published kind, with RoBERTa's layers over the base's rows"
            )
    if not said.get("hn_embed_using_source_embeddings", False):
        raise CheckpointError(
            f"{name} has hn_embed_using_source_embeddings: false, so it reads no rows of a base; "
            "give a hypernetwork of the published kind"
        )
    try:
        return HypernetConfig(
            **{key: said[key] for key in HypernetConfig.model_fields if key in said}
        )
    except ValidationError as error:
        faults = "; ".join(
            ".".join(map(str, entry["loc"])) + f": {entry['msg']}".removeprefix(": Value error, ")
            for entry in error.errors()
        )
        raise CheckpointError(
            f"{name}: config.json does not describe a hypernetwork ({faults}); fetch it again"
        ) from error
