"""Where a checkpoint keeps its vocabulary: the tensors with one row for each token.

There is no table of architectures. transformers builds the model on the meta device (no memory,
no weights) and says which module embeds and which predicts; the names are then looked up among
those that are stored, which differ from the modules' by a prefix at times.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.quantised.weights import refusal
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError
from tokswap.vocabulary.special import levels

if TYPE_CHECKING:
    from torch import Tensor, nn

STORED_NAMES = {"lm_head": "embed_out"}
"""Modules that some checkpoints store under another name (GPT-NeoX's head)."""


@dataclass(frozen=True)
class VocabTensor:
    """One stored tensor with an entry for each token of the vocabulary.

    Attributes:
        name: Its stored name.
        role: The role whose plan its entries follow: ``input`` where it is looked up by the tokens
            that are read, ``output`` where it scores the tokens that may come next.
        axis: The dimension with one entry for each token.
        rows: Stored size of that dimension: S, or less in a table that ends early.
    """

    name: str
    role: Literal["input", "output"]
    axis: int
    rows: int


@dataclass(frozen=True)
class Layout:
    """The vocabulary's tensors of one checkpoint, by their stored names.

    Attributes:
        input: The embedding, (S, D): the table that methods read for the role ``input``.
        output: The head, (S, D); the same name as ``input`` where the head is tied to it.
        tensors: All stored tensors that a change of vocabulary replaces, these two first.
        unsaid: Settings about the vocabulary that config.json leaves to transformers' defaults.
    """

    input: str
    output: str
    tensors: tuple[VocabTensor, ...]
    unsaid: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether one table serves both roles."""
        return self.input == self.output

    @property
    def names(self) -> tuple[str, ...]:
        """Stored names of all of them."""
        return tuple(tensor.name for tensor in self.tensors)


def find_layout(checkpoint: Checkpoint) -> Layout:
    """Find the tensors that a change of vocabulary must replace.

    Raises:
        CheckpointError: If transformers does not know the model, if a vocabulary tensor is not
            stored or quantised in a way that cannot be undone.
    """
    model = _meta_model(checkpoint, _config(checkpoint))
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    prefix = getattr(model, "base_model_prefix", "")
    embedding_name = _module_name(model, embedding)
    input_name = _stored(checkpoint, f"{embedding_name}.weight", prefix)
    if input_name is None:
        if checkpoint.quantisation:
            raise CheckpointError(refusal(checkpoint, f"{embedding_name}.weight"))
        raise CheckpointError(
            f"{checkpoint.name} stores no embedding under {embedding_name}.weight; it lies under "
            "another name, which is not supported; give a checkpoint as save_pretrained() writes it"
        )
    output_name = bias = None
    if head is not None:
        head_name = _module_name(model, head)
        output_name = _stored(checkpoint, f"{head_name}.weight", prefix)
        bias = _stored(checkpoint, f"{head_name}.bias", prefix)
    said_tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    if output_name is None and head is not None and not said_tied:
        if checkpoint.quantisation:
            raise CheckpointError(refusal(checkpoint, f"{head_name}.weight"))
        raise CheckpointError(
            f"{checkpoint.name} says that its head is not tied to the embedding, but stores no "
            f"{head_name}.weight; give the whole, plain checkpoint"
        )
    # Where a head is stored beside the embedding and differs, transformers unties the two.
    separate = output_name not in {None, input_name}
    tied = output_name is None or (
        said_tied and (not separate or _same(checkpoint, input_name, output_name))
    )
    roles: dict[str, Literal["input", "output"]] = {input_name: "input"}
    if output_name and separate:
        roles[output_name] = "input" if tied else "output"
    if bias:
        roles[bias] = "output"
    layout = Layout(
        input=input_name,
        output=input_name if tied or output_name is None else output_name,
        tensors=tuple(
            VocabTensor(name, role, axis=0, rows=checkpoint.info(name).shape[0])
            for name, role in roles.items()
        ),
        unsaid=_unsaid(checkpoint, model.config),
    )
    for name in layout.names:
        if checkpoint.info(name).dtype not in FLOATS:
            raise CheckpointError(
                f"{checkpoint.name} stores {name} as {checkpoint.info(name).dtype}; quantised "
                "vocabulary tensors need a quantization_config that says how; give the plain "
                "checkpoint"
            )
    return layout


def check_sizes(checkpoint: Checkpoint, layout: Layout) -> int:
    """Check that all vocabulary tensors agree, and that no tensor is one without being known.

    Returns:
        S, the rows of the embedding.

    Raises:
        CheckpointError: If tensors disagree, or one of the vocabulary's size is not claimed.
    """
    shape = checkpoint.info(layout.input).shape
    if len(shape) != 2:
        raise CheckpointError(
            f"{checkpoint.name}: {layout.input} has the shape {shape}; an embedding has two "
            "dimensions, fetch it again"
        )
    for name in layout.names:
        if checkpoint.info(name).shape[:1] != shape[:1]:
            raise CheckpointError(
                f"{checkpoint.name}: {name} has the shape {checkpoint.info(name).shape} and "
                f"{layout.input} {shape}; this program needs their rows to agree"
            )
    if checkpoint.vocab_size not in {None, shape[0]}:
        raise CheckpointError(
            f"{checkpoint.name}: config.json says a vocab_size of {checkpoint.vocab_size} and "
            f"{layout.input} has {shape[0]} rows; mend config.json"
        )
    sizes = {shape[0]} | {
        value
        for level in levels(checkpoint.config)
        for key, value in level.items()
        if "vocab" in key and type(value) is int and value > 1
    }
    known = {stored for name in layout.names for stored in checkpoint.stored_names(name)}
    suspects = {
        name: info.shape
        for shard in checkpoint.shards
        for name, info in checkpoint.header(shard).tensors.items()
        if name not in known and sizes & set(info.shape)
    }
    if suspects:
        # Some other size may just be the same number: such tensors do not grow with a vocabulary.
        steady = _steady_names(checkpoint)
        for name, suspect in suspects.items():
            if checkpoint.plain_name(name) not in steady:
                raise CheckpointError(
                    f"{checkpoint.name}: {name} {suspect} has a dimension of a vocabulary's size, "
                    "and it is not known how to carry it over; models with such tensors are not "
                    "supported"
                )
    return shape[0]


def _same(checkpoint: Checkpoint, first: str, second: str | None) -> bool:
    import torch

    if second is None or checkpoint.parts(first) or checkpoint.parts(second):
        return False  # what was quantised is a copy of nothing
    return torch.equal(checkpoint.load(first), checkpoint.load(second))


def _unsaid(checkpoint: Checkpoint, config: Any) -> dict[str, Any]:
    """Collect what a config without nested ones leaves to the defaults of its class."""
    if config.get_text_config() is not config:
        return {}
    keys = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
    values = {key: getattr(config, key, None) for key in keys if key not in checkpoint.config}
    return {key: value for key, value in values.items() if value is not None}


def _steady_names(checkpoint: Checkpoint) -> set[str]:
    """Name the stored tensors whose shapes do not depend on the size of any vocabulary."""
    plain = _meta_model(checkpoint, _config(checkpoint))
    config = _config(checkpoint)
    for level in {id(part): part for part in (config, config.get_text_config())}.values():
        for key in [key for key in vars(level) if "vocab" in key]:
            if type(getattr(level, key)) is int:
                setattr(level, key, getattr(level, key) + 1)
    grown = {name: tensor.shape for name, tensor in _tensors(_meta_model(checkpoint, config))}
    prefix = getattr(plain, "base_model_prefix", "")
    return {
        spelling
        for name, tensor in _tensors(plain)
        if grown.get(name) == tensor.shape
        for spelling in _spellings(name, prefix)
    }


def _tensors(model: Any) -> "Iterator[tuple[str, Tensor]]":
    yield from model.named_parameters()
    yield from model.named_buffers()


def _config(checkpoint: Checkpoint) -> Any:
    from transformers import AutoConfig

    folder = checkpoint.files.path("config.json").parent
    with _explained(checkpoint):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _meta_model(checkpoint: Checkpoint, config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with _explained(checkpoint), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


@contextmanager
def _explained(checkpoint: Checkpoint) -> Iterator[None]:
    """Silence transformers, and turn what it raises into one sentence.

    Raises:
        CheckpointError: If transformers cannot build the model.
    """
    try:
        with quiet():
            yield
    except Exception as error:  # each architecture refuses settings by exceptions of its own
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.config.get('model_type')!r} model, which the "
            f"installed transformers cannot build as a causal language model ({reason}); give one "
            "that it can, or upgrade transformers"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers writes to stderr."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _module_name(model: "nn.Module", module: "nn.Module") -> str:
    return next(str(name) for name, found in model.named_modules() if found is module)


def _stored(checkpoint: Checkpoint, name: str, prefix: str) -> str | None:
    """Find the stored name of a parameter."""
    return next((found for found in _spellings(name, prefix) if checkpoint.has(found)), None)


def _spellings(name: str, prefix: str) -> Iterator[str]:
    module, _, leaf = name.rpartition(".")
    for spelling in (module, STORED_NAMES.get(module, module)):
        yield f"{spelling}.{leaf}"
        yield f"{spelling}.{leaf}".removeprefix(f"{prefix}.")
        yield f"{prefix}.{spelling}.{leaf}"
