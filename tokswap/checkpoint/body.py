"""The body of a model: its tensors but for the vocabulary's, known by the model's own names."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.skeleton import Skeleton
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError


def stored_body(
    checkpoint: Checkpoint, skeleton: Skeleton, others: Collection[str]
) -> dict[str, str]:
    """Find what is stored of a model, but for some tensors.

    Programs store one model under different names. Buffers that older ones have stored, and layers
    that transformers does not load, are no part of it; of a quantised model all is.

    Args:
        checkpoint: The model.
        skeleton: The same as transformers builds it.
        others: Names of tensors to leave out.

    Returns:
        Stored names by the model's own, or by themselves where several make one of the model's.
    """
    if checkpoint.quantisation:
        parts = {part for name in others for part in checkpoint.stored_names(name)}
        return {name: name for name in checkpoint.shard_of if name not in parts}
    names = {name: skeleton.module_names[name] for name in checkpoint.names if name not in others}
    uses = Counter(names.values())
    return {
        own if uses[own] == 1 else name: name
        for name, own in names.items()
        if own in skeleton.saved
    }


@dataclass(frozen=True, eq=False)
class Body:
    """The body of one checkpoint.

    Attributes:
        checkpoint: Where it is stored.
        names: Stored names by the model's own, as :func:`stored_body` gives them.
    """

    checkpoint: Checkpoint
    names: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the user called the checkpoint."""
        return self.checkpoint.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor as it is stored."""
        return self.checkpoint.stored_info(self.names[name]).shape

    def is_plain(self, name: str) -> bool:
        """Tell whether a tensor holds plain numbers, which can be added to."""
        return self.checkpoint.stored_info(self.names[name]).dtype in FLOATS


def check_alike(first: Body, second: Body) -> None:
    """Check that two bodies have the same tensors.

    Raises:
        CheckpointError: If one lacks a tensor, or has it in another shape; the message names one.
    """
    for one, other in ((first, second), (second, first)):
        if lacking := sorted(one.names.keys() - other.names.keys()):
            raise CheckpointError(
                f"{other.name!r} is of another architecture than {one.name!r}: it lacks "
                f"{one.names[lacking[0]]} ({len(lacking)} of {len(one.names)} tensors); give a "
                "model of the same architecture and size"
            )
    for name, stored in first.names.items():
        if first.shape(name) != second.shape(name):
            raise CheckpointError(
                f"{second.name!r} is of another size than {first.name!r}: {stored} is "
                f"{first.shape(name)} in the one and {second.shape(name)} in the other; give a "
                "model of the same architecture and size"
            )


def check_bodies(fine: Body, original: Body, like: Body, *, strength: float) -> None:
    """Check that three bodies are of one architecture and size, as far as it can be told.

    Args:
        fine: The body of a fine-tune.
        original: The body of its base.
        like: The body of that base after it was transplanted.
        strength: The part of the difference of these two that shall be added.

    Raises:
        CheckpointError: If they are not, or if it cannot be told and matters.
    """
    quantised = [bool(body.checkpoint.quantisation) for body in (original, like)]
    if quantised[0] == quantised[1]:
        check_alike(original, like)
    elif strength:
        raise CheckpointError(
            f"{(original if quantised[0] else like).name!r} is quantised and "
            f"{(like if quantised[0] else original).name!r} is not, so that it cannot be told what "
            "training has changed; give both plain, or --strength 0, which leaves the body as it is"
        )
    if not any(quantised) and not fine.checkpoint.quantisation:
        check_alike(original, fine)


def check_addable(changed: Iterable[str], *bodies: Body) -> None:
    """Check that the tensors that differ hold plain numbers in all bodies.

    Raises:
        CheckpointError: If one does not.
    """
    for name in changed:
        for body in bodies:
            if name not in body.names or not body.is_plain(name):
                raise CheckpointError(
                    f"training has changed {name}, and that cannot be added to numbers that are "
                    f"quantised, as {body.name!r} has them; give plain models, or --strength 0, "
                    "which leaves the body as it is"
                )
