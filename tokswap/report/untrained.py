"""The rows that a method has found to be untrained, for the record and for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokswap.methods import Role, Side
from tokswap.methods.base import Searched
from tokswap.vocabulary.align import Alignment

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8
"""Tokens that are named."""


def untrained(
    found: "Mapping[Searched, Tensor]", alignment: Alignment
) -> dict[str, dict[str, Any]]:
    """Count untrained rows, and name the first; ids without a token are left out.

    Args:
        found: Which rows of a table are untrained; those of any search count.
        alignment: The new vocabulary against the base's.

    Returns:
        Under ``donor input`` and the like: ``count``, ``rows`` (ids with a token that have a row)
        and ``first``, the tokens of the lowest ids.
    """
    said = {}
    by_table: dict[tuple[Side, Role], Tensor] = {}
    for (side, role, _), rows in found.items():
        by_table[side, role] = by_table[side, role] | rows if (side, role) in by_table else rows
    for (side, role), rows in sorted(by_table.items(), reverse=True):
        vocabulary = getattr(alignment, side)
        spelt = [
            (number, is_untrained)
            for number, (spelling, is_untrained) in enumerate(
                zip(vocabulary.spelling, rows.tolist(), strict=False)
            )
            if spelling is not None
        ]
        numbers = [number for number, is_untrained in spelt if is_untrained]
        said[f"{side} {role}"] = {
            "count": len(numbers),
            "rows": len(spelt),
            "first": [vocabulary.show(number) for number in numbers[:SHOWN]],
        }
    return said


def untrained_line(said: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Say in one line what :func:`untrained` has counted; None where there is none."""
    parts = [
        f"{part['count']:,} of {part['rows']:,} {name} rows ({', '.join(part['first'][:3])}"
        + (", …)" if part["count"] > 3 else ")")
        for name, part in said.items()
        if part["count"]
    ]
    return f"rows that look untrained serve as no anchors: {'; '.join(parts)}" if parts else None
