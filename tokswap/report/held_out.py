"""What held-out anchors say, in words: for the result, the model card and the warnings."""

from collections.abc import Mapping
from typing import Any

LEAST = 0.05
"""A cosine without the mean that is less above that of any other anchor is chance."""

ENOUGH = 16
"""Held-out anchors that say whether it is chance, at least."""


def held_out_lines(said: Mapping[str, Any] | None) -> list[str]:
    """Tell the figures, a line for each role.

    Args:
        said: What :meth:`~tokswap.held_out.HeldOut.summary` has summed up.
    """
    if not said or "not_checked" in said:
        return []
    lines = []
    for role, part in said.items():
        base, donor = part["base"], part["donor"]
        own, other = _mean(base["method"], "centered_cosine"), base["other_anchor"]
        in_donor = f"{_mean(donor['method']):.3f} in the donor, " if donor["method"] else ""
        table = f", {role} rows" if len(said) > 1 else ""
        lines.append(
            f"held-out anchors ({part['held_out']:,}{table}): cosine {in_donor}"
            f"{_mean(base['method']):.3f} in the base (the mean row: {_mean(base['mean_row']):.3f})"
            f"; without the mean {own:.3f} in the base (any other anchor: "
            f"{_mean(other, 'centered_cosine'):.3f})"
        )
    return lines


def held_out_doubts(said: Mapping[str, Any] | None) -> list[str]:
    """Warn where rows do not carry over: what the method makes in the base is chance."""
    if not said or "not_checked" in said:
        return []
    doubts = []
    for role, part in said.items():
        of_method, of_other = (
            _mean(part["base"][name], "centered_cosine") for name in ("method", "other_anchor")
        )
        if part["held_out"] >= ENOUGH and of_method < max(of_other, 0.0) + LEAST:
            doubts.append(
                f"the {role} rows do not carry over from the donor: those made of "
                f"{part['held_out']:,} held-out anchors are no more like the true ones than any "
                f"other anchor's (cosine without the mean {of_method:.3f}, any other's "
                f"{of_other:.3f}); try other settings (`tokswap held-out --sweep`), a method that "
                "reads no donor's weights, such as pieces, or another donor"
            )
    return doubts


def not_checked(said: Mapping[str, Any] | None) -> str | None:
    """Tell why there are no figures, where they were asked for."""
    why = (said or {}).get("not_checked")
    return f"anchors were not held out: {why}" if why else None


def _mean(figures: Mapping[str, Mapping[str, float]], name: str = "cosine") -> float:
    return figures[name]["mean"]
