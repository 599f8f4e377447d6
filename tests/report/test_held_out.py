"""What held-out anchors say in words: figures, warnings, and why there are none."""

from typing import Any

import pytest

from tokswap.report.held_out import held_out_doubts, held_out_lines, not_checked


def figures(cosine: float, centered: float) -> dict[str, dict[str, float]]:
    said = {"cosine": cosine, "centered_cosine": centered, "relative_error": 1.0}
    return {key: dict.fromkeys(("mean", "lower", "median", "upper"), v) for key, v in said.items()}


def part(own: float, other: float, *, count: int = 256, dense: bool = False) -> dict[str, Any]:
    base = {"method": figures(0.5, own), "mean_row": figures(0.6, 0)}
    donor = {"method": None if dense else figures(0.9, 0.8)}
    base["other_anchor"] = figures(0.4, other)
    return {"anchors": 9000, "held_out": count, "folds": 1, "base": base, "donor": donor}


def test_a_tied_base_has_one_line() -> None:
    assert held_out_lines({"input": part(0.3, 0.01)}) == [
        "held-out anchors (256): cosine 0.900 in the donor, 0.500 in the base (the mean row: "
        "0.600); without the mean 0.300 in the base (any other anchor: 0.010)"
    ]


def test_an_untied_base_has_a_line_for_each_role() -> None:
    lines = held_out_lines({"input": part(0.3, 0, count=1200), "output": part(0.3, 0, dense=True)})
    assert lines[0].startswith("held-out anchors (1,200, input rows): cosine 0.900 in the donor, ")
    assert lines[1].startswith("held-out anchors (256, output rows): cosine 0.500 in the base (")


@pytest.mark.parametrize(
    ("own", "other", "count", "doubted"),
    [
        (0.30, 0.00, 256, False),
        (0.06, 0.00, 256, False),
        (0.04, 0.00, 256, True),
        (-0.2, -0.3, 256, True),
        (0.30, 0.28, 256, True),
        (0.04, 0.00, 15, False),
        (0.04, 0.00, 16, True),
    ],
)
def test_what_is_no_better_than_chance_is_doubted(
    own: float, other: float, count: int, doubted: bool
) -> None:
    said = {"input": part(0.5, 0), "output": part(own, other, count=count)}
    doubts = held_out_doubts(said)
    assert len(doubts) == doubted
    assert all(doubt.startswith("the output rows do not carry over") for doubt in doubts)


@pytest.mark.parametrize("said", [None, {}, {"not_checked": "too few"}])
def test_without_figures_nothing_is_said(said: dict[str, Any] | None) -> None:
    assert held_out_lines(said) == held_out_doubts(said) == []
    assert not_checked(said) == ("anchors were not held out: too few" if said else None)
    assert not_checked({"input": part(0.3, 0)}) is None
