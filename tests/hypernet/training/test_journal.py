"""What a training tells: all its losses, its figures for TensorBoard, a line now and then."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokswap import progress
from tokswap.hypernet.training.journal import LOGS, LOSSES, Journal
from tokswap.hypernet.training.step import Taken


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_shown", True)


def taken(step: int, bits: float | None = 2.0) -> Taken:
    parts = {"text": 3.0, "auxiliary": 0.25} if bits else {"identity": 3.0}
    return Taken(step, 3.0 + step, parts, bits, 0.5, 1e-4, 100)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOSSES).read_text().splitlines()]


def told(out: Path, first: int, last: int, **measured: Any) -> None:
    journal = Journal(out, first, 10, 5)
    journal.start()
    for step in range(first, last):
        journal.tell(taken(step), 0.0)
    if measured:
        journal.held_out(last, measured, "other")
    journal.close()


def events(out: Path) -> Iterator[Any]:
    """Read the files as TensorBoard does: each record is its length, a sum, the event, a sum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((out / LOGS).iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def scalars(out: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(out):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_each_step_has_a_line(tmp_path: Path) -> None:
    told(tmp_path, 0, 3, all=2.5, new=3.5)
    *steps, measured = lines(tmp_path)
    assert [line["step"] for line in steps] == [0, 1, 2]
    assert steps[1] == {
        "step": 1, "loss": 4.0, "text": 3.0, "auxiliary": 0.25, "gradient": 0.5, "rate": 1e-4,
        "bits_per_byte": 2.0,
    }  # fmt: skip
    assert measured == {"step": 3, "held_out": {"all": 2.5, "new": 3.5}}


def test_a_line_is_there_as_soon_as_it_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, 10, 5)
    journal.start()
    journal.tell(taken(0), 0.0)
    assert len(lines(tmp_path)) == 1
    journal.close()


def test_lines_behind_the_state_that_is_gone_on_from_are_cut(tmp_path: Path) -> None:
    told(tmp_path, 0, 4, all=9.0)
    told(tmp_path, 4, 7, all=8.0)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    told(tmp_path, 4, 6)
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [0, 1, 2, 3, 4, 4, 5]
    assert [line["step"] for line in found if "held_out" in line] == [4]
    told(tmp_path, 0, 1)
    assert [line["step"] for line in lines(tmp_path)] == [0]


@pytest.mark.parametrize("last", ['{"step": 3, "lo', "1", "[]", '{"loss": 1}', "\x00\x00", ""])
def test_a_line_that_was_being_written_is_left_out(last: str, tmp_path: Path) -> None:
    told(tmp_path, 0, 3)
    path = tmp_path / LOSSES
    path.write_text(path.read_text() + last)
    told(tmp_path, 3, 5)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]


def test_a_line_without_its_end_stays_a_line(tmp_path: Path) -> None:
    told(tmp_path, 0, 3)
    path = tmp_path / LOSSES
    path.write_text(path.read_text().rstrip("\n"))
    told(tmp_path, 3, 5)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]


def test_tensorboard_reads_the_figures(tmp_path: Path) -> None:
    told(tmp_path, 0, 5, all=2.5, new=3.5)
    found = scalars(tmp_path)
    assert found["train/loss"] == {step + 1: 3.0 + step for step in range(5)}
    assert set(found) == {
        "train/loss", "train/text", "train/auxiliary", "train/gradient", "train/rate",
        "train/bits_per_byte", "held_out/all", "held_out/new", "speed/per_second",
        "speed/waiting",
    }  # fmt: skip
    assert found["held_out/new"] == {5: 3.5}


def test_tensorboard_forgets_what_is_taken_anew(tmp_path: Path) -> None:
    """It drops events from the step on that the new file's beginning names."""
    told(tmp_path, 0, 4, all=2.5)
    told(tmp_path, 4, 6)
    begins = [
        e.step for e in events(tmp_path) if e.HasField("session_log") and e.session_log.status == 1
    ]
    assert begins[-1] == 5  # the figures after four steps stay
    assert scalars(tmp_path)["held_out/all"] == {4: 2.5}


def test_a_line_of_progress_is_of_what_came_since_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(tmp_path, 0, 10)
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(said) == 2
    assert "step 5 of 10: loss 5.0000 (2.000 bits/byte), auxiliary 0.2500; " in said[0]
    assert "step 10 of 10: loss 10.0000 (" in said[1]
    assert "tokens/s" in said[1]
    assert "about 0" in said[1]


def test_identity_steps_count_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path, 0, 5, 5)
    journal.start()
    for step in range(5):
        journal.tell(taken(step, None), 0.0)
    journal.held_out(5, {"all": 2.0}, "other")
    journal.close()
    said = capsys.readouterr().err
    assert "rows/s" in said
    assert "bits_per_byte" not in lines(tmp_path)[0]
    assert "identity 3.0000" in said
