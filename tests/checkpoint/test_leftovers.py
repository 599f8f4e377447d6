"""Folders of runs that were killed: told from those of runs at work, cleared away, put back."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tokswap.checkpoint.leftovers import clear_leftovers, hold, leftovers
from tokswap.checkpoint.target import RECORD, staging
from tokswap.errors import OutputError


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def partial(target: Path, suffix: str = "partial") -> Path:
    folder = target.with_name(f".{target.name}.0123abcd.{suffix}")
    folder.mkdir()
    (folder / "model.safetensors").write_text("half")
    return folder


def test_only_our_own_folders_are_leftovers(tmp_path: Path) -> None:
    target = tmp_path / "out[1]"
    ours = partial(target)
    for name in (
        ".out[1].partial", ".out[1].0123abcd", ".out[1].0123abcX.partial",
        ".other.0123abcd.partial", "out[1].0123abcd.partial", ".out1.0123abcd.partial",
        ".out[1].0123abcd.partial.mine",
    ):  # fmt: skip
        (tmp_path / name).mkdir()
    (tmp_path / ".out[1].abcdabcd.partial").write_text("a file")
    assert leftovers(target) == [ours]


def test_a_killed_runs_folder_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    folder = partial(target)
    lines = clear_leftovers(target, known=RECORD)
    assert lines == [f"{folder}, left by an earlier run that was killed, was removed"]
    assert left(tmp_path) == []
    assert clear_leftovers(target, known=RECORD) == []


def test_a_folder_that_is_being_written_is_let_be(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with staging(target) as stage:
        (stage / "x").write_text("new")
        old = partial(target, "old")
        lines = clear_leftovers(target, known=RECORD)
        assert len(lines) == 1
        assert lines[0].startswith(f"{stage} is being written by another run to {target}")
        assert stage.is_dir()
        assert old.is_dir()
    assert left(tmp_path) == [old.name, "out"]


def test_what_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    old, half = partial(target, "old"), partial(target)
    (old / RECORD).write_text("{}")
    lines = clear_leftovers(target, known=RECORD)
    assert f"{target} was put back: an earlier run was killed while it replaced it" in lines
    assert left(tmp_path) == ["out"]
    assert left(target) == ["model.safetensors", RECORD]
    assert not half.exists()


def test_what_was_replaced_is_removed_once_the_new_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / RECORD).write_text("{}")
    old = partial(target, "old")
    (old / RECORD).write_text("{}")
    lines = clear_leftovers(target, known=RECORD)
    assert lines == [f"{old}, left by an earlier run that was killed, was removed"]
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("exists", [True, False])
def test_an_old_folder_of_unknown_origin_is_kept(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "out"
    if exists:
        target.mkdir()
    old = partial(target, "old")
    (line,) = clear_leftovers(target, known=RECORD)
    assert "it is kept" in line
    assert (old / "model.safetensors").read_text() == "half"


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = f"""
import sys, time
from pathlib import Path
from tokswap.checkpoint.target import staging
with staging(Path({str(target)!r})) as stage:
    (stage / "x").touch()
    print(stage, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        stage = Path(ran.stdout.readline().strip())
        assert "is being written" in clear_leftovers(target, known=RECORD)[0]
        os.kill(ran.pid, signal.SIGKILL)
        ran.wait()
    assert stage.is_dir()
    assert "was removed" in clear_leftovers(target, known=RECORD)[0]
    assert left(tmp_path) == []


def test_holding_twice_is_seen(tmp_path: Path) -> None:
    with hold(tmp_path), hold(tmp_path):
        pass  # the second does without


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    def fail() -> None:
        with staging(tmp_path / "there" / "a" / "b" / "out"):
            raise OutputError("it does not load")

    with pytest.raises(OutputError):
        fail()
    assert left(tmp_path) == ["there"]
    assert left(tmp_path / "there") == []
