"""What is said of the cut's part of a loss."""

from typing import Any

import pytest

from tokswap.report.cut import cut_alone_line, cut_line


def cut(cost: float, **causes: float) -> dict[str, Any]:
    kinds = {kind: {"bits_per_byte": value, "of_bytes": 0.1} for kind, value in causes.items()}
    return {"bits_per_byte": cost, "kinds": kinds, "causes": list(causes)}


@pytest.mark.parametrize(
    ("given", "rows", "line"),
    [
        (
            cut(0.35, digits=0.21, spaces=0.08),
            0.14,
            "of +0.4900 bits/byte the changed cut costs +0.3500 (digits +0.2100, spaces +0.0800), "
            "which no initialisation mends; the rows cost +0.1400",
        ),
        (
            cut(0.35),
            -0.02,
            "of +0.3300 bits/byte the changed cut costs +0.3500; the rows win 0.0200 of it back",
        ),
        (
            cut(0.35),
            -0.00001,
            "of +0.3500 bits/byte the changed cut costs +0.3500, which no initialisation mends; "
            "the rows cost +0.0000",
        ),
        (cut(-0.015), 0.1, "the changed cut saves 0.0150 bits/byte; the rows cost +0.1000"),
        (cut(0.00001), 0.1, "the cut of the text costs nothing; the rows cost +0.1000 bits/byte"),
    ],
)
def test_the_loss_is_the_cuts_and_the_rows(given: Any, rows: float, line: str) -> None:
    assert cut_line(given, rows) == line


def test_a_body_that_was_trained_has_its_part() -> None:
    said = cut_line(cut(0.5), 0.1, trained=True)
    assert said.endswith("; the rows and what was added to the body cost +0.1000")


def test_the_cut_alone() -> None:
    said = cut_alone_line(cut(0.35, digits=0.21))
    assert said == "the cut alone costs +0.3500 bits/byte (digits +0.2100)"
    assert cut_alone_line(cut(-0.015)) == "the cut alone costs -0.0150 bits/byte"
