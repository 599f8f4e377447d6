"""What the arguments of a search for atoms must be."""

import math

from torch import Tensor

_ROWS = 4096  # rows that are looked at at once


def check_settings(k: int, ridge: float, rtol: float) -> None:
    """Check what does not depend on the data.

    Raises:
        ValueError: If something is out of range.
    """
    check_count(k)
    if not (ridge >= 0 and math.isfinite(ridge)):
        raise ValueError(f"ridge={ridge} is out of range; give a finite number, at least 0")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol={rtol} is out of range; give 0 <= rtol < 1")


def check_count(k: int) -> None:
    """Check the number of atoms a target.

    Raises:
        ValueError: If it is none.
    """
    if k < 1:
        raise ValueError(f"k={k} is no number of atoms; give at least 1")


def check_pair(targets: Tensor, atoms: Tensor) -> None:
    """Check that targets can be written in atoms.

    Raises:
        ValueError: If they do not fit, or the targets cannot be worked with.
    """
    if targets.ndim != 2 or atoms.ndim != 2 or targets.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} and atoms of shape {tuple(atoms.shape)} "
            "do not fit; give (M, E) and (N, E)"
        )
    if targets.device != atoms.device:
        raise ValueError(
            f"targets are on {targets.device} and atoms on {atoms.device}; move them to one device"
        )
    check_vectors("targets", targets)


def check_vectors(name: str, rows: Tensor) -> None:
    """Check that rows are finite numbers.

    Raises:
        ValueError: If they are not.
    """
    if not rows.is_floating_point():
        raise ValueError(f"{name} have dtype {rows.dtype}; give floating-point vectors")
    starts = range(0, len(rows), _ROWS)
    if not all(bool(rows[start : start + _ROWS].isfinite().all()) for start in starts):
        raise ValueError(f"{name} hold NaN or infinite values; leave those rows out")
