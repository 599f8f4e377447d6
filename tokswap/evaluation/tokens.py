"""What a measurement has to know of a vocabulary's tokens."""

from typing import TYPE_CHECKING

import torch

from tokswap.vocabulary.align import Kind
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("shared", "new")


def start_of(vocabulary: Vocabulary) -> int | None:
    """Tell what stands before each document: the beginning of text, or the end of the last one."""
    return vocabulary.roles.get("bos", vocabulary.roles.get("eos"))


def lengths_of(vocabulary: Vocabulary) -> "Tensor":
    """Tell the bytes of each token, (T,) int64; special tokens stand for none."""
    special = vocabulary.special
    sizes = [0 if n in special else len(s or b"") for n, s in enumerate(vocabulary.spelling)]
    return torch.tensor(sizes, dtype=torch.int64)


def groups_of(kind: "Tensor") -> "Tensor":
    """Tell which of ``GROUPS`` each token is in by its kind, (T,) int64."""
    return (kind == Kind.MISSING).to(torch.int64)
