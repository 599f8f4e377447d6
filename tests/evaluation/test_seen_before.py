"""How much of what is measured on stands in what rows are fitted to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tokswap.evaluation.measure import SAMPLE
from tokswap.evaluation.seen_before import seen_before

ENOUGH = 1_000_000
Write = Callable[[str, str], str]


def lines(first: int, last: int) -> str:
    return "".join(f"line {n:,} of a text, and of no other one\n" for n in range(first, last))


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, newline="")
        return str(tmp_path / name)

    return write


def test_the_part_of_the_measured_lines_is_told(written: Write) -> None:
    measured = written("measured", lines(1000, 1100))
    others = written("a", lines(2000, 4000)), written("b", lines(1025, 1050))
    assert str(seen_before([measured], others, ENOUGH)).startswith("25% of the lines")
    assert str(seen_before([measured, others[0]], [measured], ENOUGH)).startswith("5% of")
    assert str(seen_before([measured], [measured], ENOUGH)).startswith("100% of")
    assert seen_before([measured], others[:1], ENOUGH) is None
    assert seen_before([measured], [written("one", lines(1000, 1001))], ENOUGH) is None
    assert str(seen_before([measured], [written("few", lines(1000, 1003))], ENOUGH))[:2] == "3%"


def test_short_lines_white_space_and_line_ends_do_not_count(written: Write) -> None:
    short = written("short", "return None\n}\n\n" * 50)
    assert seen_before([short], [short], ENOUGH) is None
    text = lines(1, 40)
    read = written("read", "\r\n".join(f"  {line}" for line in text.splitlines()))
    assert str(seen_before([written("measured", text)], [read], ENOUGH)).startswith("100%")


def test_lines_lie_across_chunks_and_files_do_not_run_together(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.evaluation.texts.CHUNK", 7)
    a = written("a", lines(1, 30) + "a line without an end, which is the last")
    b = written("b", "x")
    assert str(seen_before([a], [b, a, b], ENOUGH)).startswith("100%")


def test_what_is_not_read_is_not_seen(written: Write) -> None:
    pad, measured = written("pad", "x" * 3_000_000), written("measured", lines(1, 100))
    assert seen_before([measured], [pad, measured], 256) is None
    assert seen_before([measured], [], ENOUGH) is None


def test_without_a_file_the_sample_is_measured_on() -> None:
    assert str(seen_before([], [str(SAMPLE)], ENOUGH)).startswith("100%")
