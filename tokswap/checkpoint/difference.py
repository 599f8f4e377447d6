"""The difference of two bodies, and a third body to which a part of it is added: task arithmetic.

    new = fine_tune + strength · (like - original)

Tensors are read in place and computed in blocks, so memory holds no tensor as a whole.

References:
    Ilharco et al. (2023), Editing Models with Task Arithmetic, https://arxiv.org/abs/2212.04089;
    for transplanted models Minixhofer et al. (2024), https://arxiv.org/abs/2405.07883.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.body import Body
from tokswap.errors import CheckpointError
from tokswap.progress import bar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NUMBERS_AT_ONCE = 1 << 22
"""Numbers of one block: a handful of copies of 16 MB each in float32."""

FAR = 0.7
"""A relative difference that no further training makes. Two trainings from beginnings of their own
end 1.4 apart, for what they make has nothing in common."""


@dataclass(frozen=True)
class Difference:
    """How one body differs from another.

    Attributes:
        compared: Number of tensors that both have.
        changed: The model's own names of those that differ.
        relative: Size of the difference over that of the original's numbers, in the tensors that
            differ (Frobenius norms of all of them together).
    """

    compared: int
    changed: tuple[str, ...]
    relative: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for the record."""
        relative = rounded(self.relative)
        return {"compared": self.compared, "changed": len(self.changed), "relative": relative}


def compare(original: Body, like: Body) -> Difference:
    """Compare the numbers of two bodies with the same tensors.

    Where they are stored in different types, the original's are taken as the other's type holds
    them: what was only stored otherwise is no difference.

    Raises:
        CheckpointError: If a tensor that differs holds NaN or infinite numbers.
    """
    changed: list[str] = []
    moved = size = 0.0
    total = sum(_bytes(body, name) for body in (original, like) for name in original.names)
    with bar("compare bodies", total) as advance:
        for name in original.names:
            if any(not _equal(old.to(new.dtype), new) for old, new in _both(original, like, name)):
                changed.append(name)
                if original.is_plain(name) and like.is_plain(name):
                    sums = _measure(original, like, name)
                    moved, size = moved + sums[0], size + sums[1]
            advance(_bytes(original, name) + _bytes(like, name))
    return Difference(len(original.names), tuple(changed), ratio(moved, size))


def _measure(original: Body, like: Body, name: str) -> tuple[float, float]:
    """Sum up the squares of a tensor's difference, and of the original's numbers.

    Raises:
        CheckpointError: If one of them holds NaN or infinite numbers.
    """
    moved = size = 0.0
    for old, new in _both(original, like, name):
        wide = _computed_in(old, new)
        before = old.to(new.dtype).to(wide)
        change = new.to(wide) - before
        sums = float(change.square_().sum()), float(before.square_().sum())
        if not all(map(math.isfinite, sums)):  # one look tells that all is well
            _check_finite(original, name, old)
            _check_finite(like, name, new)
        moved, size = moved + sums[0], size + sums[1]
    return moved, size


def added(fine: Body, original: Body, like: Body, name: str, strength: float) -> "Iterator[Tensor]":
    """Add a part of the difference to a tensor.

    Computed in float32, or float64 where one of the three is stored so. Numbers that are alike in
    both bodies leave the fine-tune's as they are, bit for bit; and where fine-tuning has changed
    nothing, the strength 1 gives the transplanted base's, bit for bit.

    Args:
        fine: The body to which it is added.
        original: The body of the base that was transplanted.
        like: The body of the transplanted base after it was trained further.
        name: The model's own name of the tensor.
        strength: The part that is added.

    Yields:
        The new tensor's numbers in their order, in the fine-tune's type.

    Raises:
        CheckpointError: If the result is not finite.
    """
    import torch

    for own, old, new in zip(
        *(_numbers(body, name) for body in (fine, original, like)), strict=True
    ):
        wide = _computed_in(own, old, new)
        start, before, after = own.to(wide), old.to(new.dtype).to(wide), new.to(wide)
        made = start + strength * (after - before)
        if strength == 1:
            made = torch.where(start == before, after, made)
        made = torch.where(after == before, own, made.to(own.dtype))
        if not all(bool(end.isfinite()) for end in made.aminmax()):
            _check_finite(fine, name, own)
            raise CheckpointError(
                f"{fine.names[name]} holds numbers beyond {own.dtype} once the difference of "
                f"{like.name!r} is added to {fine.name!r}; lower the strength, or give the "
                "fine-tune in a wider type"
            )
        yield made


def distance(first: "Tensor", second: "Tensor") -> float:
    """Size of the difference of two tables over that of the second, in the rows that both have."""
    rows, moved, size = min(len(first), len(second)), 0.0, 0.0
    step = max(1, NUMBERS_AT_ONCE // max(1, math.prod(second.shape[1:])))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        moved += float((first[part].double() - second[part].double()).square().sum())
        size += float(second[part].double().square().sum())
    return ratio(moved, size)


def ratio(moved: float, size: float) -> float:
    """Size of a difference over that of what it is a difference from, of the sums of squares."""
    if not moved:
        return 0.0
    return math.sqrt(moved / size) if 0 < size < math.inf else math.inf


def rounded(relative: float) -> float | None:
    """Round a ratio for the record; None where there was nothing that it could be relative to."""
    return float(f"{relative:.6g}") if math.isfinite(relative) else None


def _numbers(body: Body, name: str) -> "Iterator[Tensor]":
    """Read a tensor in place, block by block."""
    flat = body.checkpoint.load_stored(body.names[name]).reshape(-1)
    for start in range(0, len(flat), NUMBERS_AT_ONCE):
        yield flat[start : start + NUMBERS_AT_ONCE]


def _computed_in(*tensors: "Tensor") -> "torch.dtype":
    """The type to compute in: float32, or the wider one that a tensor is stored in."""
    import torch

    wide = torch.float32
    for tensor in tensors:
        wide = torch.promote_types(wide, tensor.dtype)
    return wide


def _both(original: Body, like: Body, name: str) -> "Iterator[tuple[Tensor, Tensor]]":
    yield from zip(_numbers(original, name), _numbers(like, name), strict=True)


def _bytes(body: Body, name: str) -> int:
    info = body.checkpoint.stored_info(body.names[name])
    return info.end - info.begin


def _equal(first: "Tensor", second: "Tensor") -> bool:
    import torch

    return torch.equal(first.view(torch.uint8), second.view(torch.uint8))


def _check_finite(body: Body, name: str, block: "Tensor") -> None:
    if not bool(block.isfinite().all()):
        raise CheckpointError(
            f"{body.name}: {body.names[name]} holds NaN or infinite numbers; the file is damaged "
            "or its training broke: fetch it again, or give another checkpoint"
        )
