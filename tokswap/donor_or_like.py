"""What a recipe says for ``like``: a transplanted base in the place of a donor."""

from collections.abc import Mapping
from typing import Any

STRENGTH = 0.5
"""Part of the difference of the bodies that is added without another word. ZeTT tries 0, 0.3, 0.5
and 0.7; half of it keeps most of what either training has taught."""

SETTLED = (
    "method", "parameters", "per_kind", "refit", "tokenizer", "held_out", "seed",
    "memory",
)  # fmt: skip
"""Keys that say how rows are made, which they are already in a transplanted base."""

WITH_LIKE = ("strength", "original")
"""Keys that say something of ``like`` alone."""


def like_faults(said: Mapping[str, Any]) -> list[str]:
    """Tell what is wrong with a recipe's donor, its ``like``, and what goes with either.

    Args:
        said: The recipe's keys and values; None and empty mappings say nothing.

    Returns:
        The faults, a line each.
    """
    there = [key for key, value in said.items() if value is not None and value != {}]
    if "like" not in there:
        faults = [] if "donor" in there else ["donor: is missing (`like` may stand in its place)"]
        return faults + [
            f"{key}: says something of `like` alone; give like too, or leave it out"
            for key in WITH_LIKE
            if key in there
        ]
    faults = []
    if "donor" in there:
        faults.append("like: stands in the place of a donor, and both were given; give one of them")
    return faults + [
        f"{key}: the rows of a transplanted base are made already; leave it out, or give a donor"
        for key in SETTLED
        if key in there
    ]
