"""Progress where stderr is no terminal: lines, with the time that is left."""

import time

import pytest

from tokswap import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr(progress, "_shown", True)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_long_work_is_told_of_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("solve", 10_000) as advance:
        for _ in range(10):
            clock[0] += 12
            advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "solve ...",
        "solve: 3,000 of 10,000, about 84 s left",
        "solve: 6,000 of 10,000, about 48 s left",
        "solve: 9,000 of 10,000, about 12 s left",
        "solve: 120.0 s",
    ]


def test_what_was_done_before_does_not_count_as_fast(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("solve", 10_000, done=8000) as advance:
        clock[0] += 600
        advance(1000)
        clock[0] += 60 * 60 * 10
        advance(500)
    assert capsys.readouterr().err.splitlines()[1:3] == [
        "solve: 9,000 of 10,000, about 10 min left",
        "solve: 9,500 of 10,000, about 3.4 h left",
    ]


def test_nothing_is_told_where_it_is_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("solve", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_what_is_silenced_tells_nothing_and_the_rest_goes_on(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with progress.silenced(), progress.bar("inner", 10):
            progress.note("a note")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        work()
    progress.note("behind")
    assert capsys.readouterr().err == "behind\n"
