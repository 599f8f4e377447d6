"""What is told of a refit, whether it has gained anything or not."""

import math
from typing import Any

import pytest

from tokswap.refit.report import lines, notes

ABOUT: dict[str, Any] = {
    "text": ["a.txt", "b.txt"],
    "tokens": 12_345,
    "bytes": 50_000,
    "more": False,
    "held_out": 1_600,
    "new": {"missing": 2_000, "seen": 300, "times": 1_800},
}


def test_what_was_read_and_gained_is_told() -> None:
    blend = {"shares": {"word": 0.25, "number": 0.0}, "before": 0.5, "after": 0.25}
    match = {"steps": 1_200, "before": 0.25, "after": 0.125, "kept": True}
    output = {"kept": True, "strength": 30.0, "gain": 0.0693147}
    assert lines(ABOUT | {"blend": blend, "match": match, "output": output}) == [
        "refit to 12,345 tokens of a.txt, b.txt, 1,600 of them held out: 300 of 2,000 new tokens "
        "stand there 1,800 times, the others keep the method's rows",
        "embedding, the last piece's share by kind: word 0.25, number 0 (shared tokens behind "
        "them cost 0.7213 → 0.3607 bits)",
        "embedding, matched in 1,200 steps: distance of held-out states 0.2500 → 0.1250",
        "head: pull 30; held-out tokens cost 0.1000 bits less each",
    ]


def test_what_becomes_of_the_bases_own_text_is_told() -> None:
    whole: dict[str, Any] = {"before": 3.465736, "after": 2.772589, "kept": True}
    said = "together: held-out text 5.0000 → 4.0000 bits a token"
    assert lines(ABOUT | {"whole": whole})[1:] == [said]
    better = whole | {"own": {"before": 1.386294, "after": 0.693147}}
    assert lines(ABOUT | {"whole": better})[1:] == [f"{said}, the base's own 2.0000 → 1.0000"]
    worse = whole | {"own": {"before": 0.693147, "after": 1.386294}, "kept": False}
    assert lines(ABOUT | {"whole": worse})[1] == (
        f"{said}, the base's own 1.0000 → 2.0000, which is dearer, and other domains would be too: "
        "the method's rows stay (--set refit.written=0 refits to the text alone)"
    )
    dearer = {"before": 2.772589, "after": 3.465736, "kept": False}
    assert lines(ABOUT | {"whole": dearer})[1].endswith(
        "4.0000 → 5.0000 bits a token, which is no better: the method's rows stay"
    )


def test_what_has_gained_nothing_is_told_too() -> None:
    match = {"steps": 9, "before": 0.25, "after": 0.5, "kept": False}
    told = lines(ABOUT | {"blend": {}, "match": match, "output": {"kept": False, "gain": 0.0}})
    assert len(told) == 3
    assert told[1].endswith("0.2500 → 0.5000, which is no better: the rows stay")
    assert told[2] == "head: held-out text is no better for refitted rows; they stay"
    assert lines(ABOUT) == told[:1]


@pytest.mark.parametrize(
    ("after", "kept", "end"),
    [
        (0.6, True, ""),
        (0.69, False, ", which may be chance: the rows stay"),
        (0.9, False, ", which is no better: the rows stay"),
    ],
)
def test_what_stands_behind_matched_rows_is_told(after: float, kept: bool, end: str) -> None:
    behind = {"before": 0.7, "after": after}
    match = {"steps": 9, "before": 0.5, "after": 0.25, "behind": behind, "kept": kept}
    bits = f"{0.7 / math.log(2):.4f} → {after / math.log(2):.4f} bits"
    assert lines(ABOUT | {"match": match})[1].endswith(
        f"0.5000 → 0.2500, shared tokens behind them cost {bits}{end}"
    )


def test_thin_text_and_text_that_goes_on_are_noted() -> None:
    assert notes(ABOUT) == []
    thin = ABOUT | {"new": {"missing": 2_000, "seen": 300, "times": 450}, "more": True}
    few, more = notes(thin)
    assert "the 300 new tokens of the refit's text stand there only 1.5 times each" in few
    assert "has read 12,345 tokens, and the text goes on; --set refit.tokens=N" in more
