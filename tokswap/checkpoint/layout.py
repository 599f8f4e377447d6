"""Where a checkpoint keeps its vocabulary: the tensors with one row for each token.

There is no table of architectures. transformers builds the model on the meta device (no memory,
no weights) and says which module embeds and which predicts; the names are then looked up among
those that are stored, which differ from the modules' by a prefix at times.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError
from tokswap.vocabulary.special import levels

if TYPE_CHECKING:
    from torch import nn

STORED_NAMES = {"lm_head": "embed_out"}
"""Modules that some checkpoints store under another name (GPT-NeoX's head)."""

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Layout:
    """The vocabulary's tensors of one checkpoint, by their stored names.

    Attributes:
        input: The embedding, (S, D).
        output: The head, (S, D); the same name as ``input`` where the head is tied to it.
        copies: Other stored copies of the embedding (a tied head that was stored all the same).
        bias: The head's bias, (S,), or None.
        tied: Whether one table serves both roles.
    """

    input: str
    output: str
    copies: tuple[str, ...]
    bias: str | None
    tied: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """Stored names of all tensors that have a row for each token."""
        names = (self.input, self.output, *self.copies, self.bias)
        return tuple(dict.fromkeys(name for name in names if name))


def find_layout(checkpoint: Checkpoint) -> Layout:
    """Find the tensors that a change of vocabulary must replace.

    Raises:
        CheckpointError: If transformers does not know the model, if a vocabulary tensor is not
            stored or stored quantised.
    """
    model = _meta_model(checkpoint)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    stored = checkpoint.shard_of
    prefix = getattr(model, "base_model_prefix", "")
    embedding_name = _module_name(model, embedding)
    input_name = _stored(f"{embedding_name}.weight", stored, prefix)
    if input_name is None:
        raise CheckpointError(
            f"{checkpoint.name} stores no embedding under {embedding_name}.weight; a checkpoint "
            "of another library or with quantised embeddings is not supported"
        )
    output_name = bias = None
    if head is not None:
        head_name = _module_name(model, head)
        output_name = _stored(f"{head_name}.weight", stored, prefix)
        bias = _stored(f"{head_name}.bias", stored, prefix)
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    if output_name is None and head is not None and not tied:
        raise CheckpointError(
            f"{checkpoint.name} says that its head is not tied to the embedding, but stores no "
            f"{head_name}.weight; a quantised head is not supported, give the plain checkpoint"
        )
    copies = (output_name,) if tied and output_name not in {None, input_name} else ()
    layout = Layout(
        input=input_name,
        output=input_name if tied or output_name is None else output_name,
        copies=tuple(name for name in copies if name),
        bias=bias,
        tied=tied or output_name is None,
    )
    for name in layout.tensors:
        if checkpoint.info(name).dtype not in FLOATS:
            raise CheckpointError(
                f"{checkpoint.name} stores {name} as {checkpoint.info(name).dtype}; quantised "
                "vocabulary tensors are not supported, give the plain checkpoint"
            )
    return layout


def check_sizes(checkpoint: Checkpoint, layout: Layout) -> tuple[int, int]:
    """Check that all vocabulary tensors agree, and that no tensor is one without being known.

    Returns:
        S and D, the rows and the width of the embedding.

    Raises:
        CheckpointError: If tensors disagree, or a tensor with a dimension of S is not claimed.
    """
    rows, width = checkpoint.info(layout.input).shape
    for name in layout.tensors:
        if checkpoint.info(name).shape[0] != rows:
            raise CheckpointError(
                f"{checkpoint.name}: {name} has {checkpoint.info(name).shape[0]} rows and "
                f"{layout.input} has {rows}; this program needs them to agree"
            )
    if rows in _other_sizes(checkpoint.config):
        return rows, width  # a tensor's shape alone cannot tell what its rows are
    for shard in checkpoint.shards:
        for name, info in checkpoint.header(shard).tensors.items():
            if name not in layout.tensors and rows in info.shape:
                raise CheckpointError(
                    f"{checkpoint.name}: {name} {info.shape} has a dimension of the vocabulary's "
                    f"size {rows}, and it is not known how to carry it over; models with such "
                    "tensors are not supported"
                )
    return rows, width


def _other_sizes(config: Mapping[str, Any]) -> set[int]:
    """Collect the sizes in a config that are no vocabulary's."""
    return {
        value
        for level in levels(config)
        for key, value in level.items()
        if type(value) is int and "vocab" not in key and not key.endswith("token_id")
    }


def _meta_model(checkpoint: Checkpoint) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    folder = checkpoint.files.path("config.json").parent
    kind = checkpoint.config.get("model_type")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # each architecture refuses settings by exceptions of its own
        reason = str(error).strip().partition("\n")[0].rstrip(":")
        raise CheckpointError(
            f"{checkpoint.name} is a {kind!r} model, which the installed transformers cannot build "
            f"as a causal language model ({reason}); give one that it can, or upgrade transformers"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return model


def _module_name(model: "nn.Module", module: "nn.Module") -> str:
    return next(str(name) for name, found in model.named_modules() if found is module)


def _stored(name: str, stored: Mapping[str, str], prefix: str) -> str | None:
    """Find the stored name of a parameter."""
    return next((found for found in _spellings(name, prefix) if found in stored), None)


def _spellings(name: str, prefix: str) -> Iterator[str]:
    module, _, leaf = name.rpartition(".")
    for spelling in (module, STORED_NAMES.get(module, module)):
        yield f"{spelling}.{leaf}"
        yield f"{spelling}.{leaf}".removeprefix(f"{prefix}.")
        yield f"{prefix}.{spelling}.{leaf}"
