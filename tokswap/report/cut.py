"""What the changed cut of a text costs, in words."""

from collections.abc import Mapping
from typing import Any


def cut_line(cut: Mapping[str, Any], rows: float, *, trained: bool = False) -> str:
    """Tell what part of a transplant's loss is the changed cut's and what part the rows'.

    Args:
        cut: What :meth:`tokswap.evaluation.cut_cost.CutCost.to_dict` gives.
        rows: Bits per byte of the result less those of the segmentation floor.
        trained: Whether the result's body is not the base's.
    """
    cost = cut["bits_per_byte"]
    rest = "the rows and what was added to the body" if trained else "the rows"
    if not _shown(cost):
        return f"the cut of the text costs nothing; {rest} cost {rows:+.4f} bits/byte"
    if cost < 0:
        return f"the changed cut saves {-cost:.4f} bits/byte; {rest} cost {rows:+.4f}"
    said = f"of {cost + rows:+.4f} bits/byte the changed cut costs {cost:+.4f}{causes(cut)}"
    if rows < 0 and _shown(rows):
        return f"{said}; {rest} win {-rows:.4f} of it back"
    return f"{said}, which no initialisation mends; {rest} cost {abs(rows):+.4f}"


def cut_alone_line(cut: Mapping[str, Any]) -> str:
    """Tell what the cut costs where no rows are measured, or those of several methods."""
    return f"the cut alone costs {cut['bits_per_byte']:+.4f} bits/byte{causes(cut)}"


def causes(cut: Mapping[str, Any]) -> str:
    """Name the kinds of text that carry much of it, in brackets; nothing where none does."""
    kinds = cut["kinds"]
    named = [f"{kind} {kinds[kind]['bits_per_byte']:+.4f}" for kind in cut["causes"]]
    return f" ({', '.join(named)})" if named else ""


def _shown(value: float) -> bool:
    """Tell whether a figure is more than nothing to the digits that are shown."""
    return round(abs(value), 4) > 0
