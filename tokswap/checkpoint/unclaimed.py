"""Tensors stored beside the model that transformers builds: claimed, or refused by name."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.skeleton import Skeleton
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError
from tokswap.vocabulary.special import levels

Side = Literal["input", "output"]


@dataclass(frozen=True)
class VocabTensor:
    """One stored tensor with an entry for each token of the vocabulary.

    Attributes:
        name: Its stored name.
        role: The role whose plan its entries follow: ``input`` where it is looked up by the tokens
            that are read, ``output`` where it scores the tokens that may come next.
        axis: The dimension with one entry for each token.
        rows: Stored size of that dimension: S, or less in a table that ends early, whose first row
            stands for the tokens behind its end.
    """

    name: str
    role: Side
    axis: int
    rows: int


def copies(
    checkpoint: Checkpoint, skeleton: Skeleton, first: VocabTensor, head: VocabTensor
) -> Iterator[VocabTensor]:
    """Find tables that are stored beside the model that transformers builds.

    Layers that predict several tokens ahead have an embedding and a head of their own, which
    transformers does not load and other engines do.
    """
    shape = checkpoint.info(first.name).shape
    for name in checkpoint.shard_of:
        if checkpoint.stored_info(name).shape != shape or skeleton.is_steady(name):
            continue
        if checkpoint.info(name).dtype not in FLOATS:
            continue
        if skeleton.module_names[name] in skeleton.shapes:
            continue  # the model's own
        if "embed" in name or "wte" in name:
            yield VocabTensor(name, "input", 0, shape[0])
        elif "head" in name:
            yield VocabTensor(name, "output", 0, shape[0])
        elif table := next((t for t in (first, head) if same(checkpoint, t.name, name)), None):
            yield VocabTensor(name, table.role, 0, shape[0])


def refuse_unknown(
    checkpoint: Checkpoint, skeleton: Skeleton, first: VocabTensor, known: Collection[str]
) -> None:
    """Refuse tensors that have a vocabulary's size and that nothing is known of.

    Some other size may just be the same number: what belongs to a module that does not grow with
    the vocabulary is let pass.

    Raises:
        CheckpointError: If there is one.
    """
    places = [place for slot in skeleton.vocabulary for place in slot.settings]
    sizes = {first.rows, *(skeleton.sizes[place] for place in places)}
    sizes |= {
        value
        for level in levels(checkpoint.config)
        for key, value in level.items()
        if "vocab" in key and "type" not in key and type(value) is int and value > 1
    }
    known = {stored for name in known for stored in checkpoint.stored_names(name)}
    for name in checkpoint.shard_of:
        shape = checkpoint.stored_info(name).shape
        if name in known or not sizes & set(shape):
            continue
        plain = checkpoint.plain_name(name)  # the scales of a steady module are steady too
        if not skeleton.is_steady(plain if plain in skeleton.module_names else name):
            raise CheckpointError(
                f"{checkpoint.name}: {name} {shape} has a dimension of a vocabulary's size, and it "
                f"is not known how to carry it over; --keep-tensor {name} carries it as it is, "
                f"--drop-tensor {name} leaves it out"
            )


def same(checkpoint: Checkpoint, first: str, second: str) -> bool:
    """Tell whether two stored tensors hold the same numbers."""
    import torch

    if checkpoint.parts(first) or checkpoint.parts(second):
        return False  # what was quantised is rounded in another way than any copy
    if checkpoint.info(first).shape != checkpoint.info(second).shape:
        return False
    return torch.equal(checkpoint.load(first), checkpoint.load(second))
