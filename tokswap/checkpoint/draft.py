"""Draft models that predict a part of their target's vocabulary (EAGLE-3).

Their head has a row for each of R draft tokens. ``d2t`` (R,) holds what must be added to a draft
id to get the target's id, and ``t2d`` (S,) whether a target token is among the draft's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

INTEGERS = ("I64", "I32")


@dataclass(frozen=True)
class DraftVocabulary:
    """The stored tensors of a draft vocabulary.

    Attributes:
        d2t: Name of the offsets, (R,).
        t2d: Name of the mask, (S,), or None where it is not stored.
        heads: Names of the tensors with an entry for each draft token, such as the head.
        rows: R.
    """

    d2t: str
    t2d: str | None
    heads: tuple[str, ...]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (self.d2t, *([self.t2d] if self.t2d else []), *self.heads)


def find_draft(checkpoint: Checkpoint) -> DraftVocabulary | None:
    """Find the draft vocabulary of a checkpoint that has one.

    Raises:
        CheckpointError: If there is one that cannot be carried over.
    """
    named = {name.rpartition(".")[2]: name for name in checkpoint.shard_of}
    if "d2t" not in named:
        return None
    info = checkpoint.info(named["d2t"])
    if len(info.shape) != 1 or info.dtype not in INTEGERS:
        raise CheckpointError(
            f"{checkpoint.name}: {named['d2t']} is {info.dtype} {info.shape}; a draft's offsets "
            "are whole numbers in one dimension, fetch it again"
        )
    if not any("embed" in name for name in checkpoint.shard_of):
        raise CheckpointError(
            f"{checkpoint.name} has a draft vocabulary ({named['d2t']}) and stores no embedding: "
            "it reads its target's, and without it no row can be made; give a draft model that "
            "stores its own"
        )
    heads = [
        name
        for name in checkpoint.shard_of
        if "head" in name and checkpoint.info(name).shape[:1] == info.shape
    ]
    return DraftVocabulary(named["d2t"], named.get("t2d"), tuple(heads), info.shape[0])


def new_draft(offsets: "Tensor", source: "Tensor", base_rows: int) -> tuple["Tensor", "Tensor"]:
    """Choose the draft tokens of a new vocabulary: those that copy a draft token.

    Args:
        offsets: ``d2t``, (R,).
        source: (T,) the base token that each new token copies, or -1.
        base_rows: S.

    Returns:
        The new draft tokens' ids in the new vocabulary, and the old draft ids that they copy,
        both (R',), in the order of the old draft ids.

    Raises:
        CheckpointError: If an offset leads out of the vocabulary, or no token is left.
    """
    import torch

    targets = torch.arange(len(offsets)) + offsets
    if bool(((targets < 0) | (targets >= base_rows)).any()):
        raise CheckpointError("d2t leads to tokens that are not there; fetch the draft model again")
    draft_of = torch.full((base_rows + 1,), -1, dtype=torch.int64)  # the last is for "copies none"
    draft_of[targets] = torch.arange(len(offsets))
    old = draft_of[source]
    ids = (old >= 0).nonzero()[:, 0]
    if not len(ids):
        raise CheckpointError(
            "no token of the new vocabulary copies one of the draft vocabulary, so the draft model "
            "would predict nothing; give a donor that shares tokens with it"
        )
    order = old[ids].argsort(stable=True)
    return ids[order], old[ids[order]]
