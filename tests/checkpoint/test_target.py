"""The output folder: whether it may be written, and how it appears whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import RECORD, check_space, check_target, staging
from tokswap.errors import OutputError

Build = Callable[..., Checkpoint]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_staging_takes_its_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "below" / "out"
    with staging(target) as stage:
        (stage / "x").write_text("new")
        assert not target.exists()
        assert stage.parent == target.parent
    assert left(target.parent) == ["out"]
    assert left(target) == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("exists", [True, False])
def test_staging_leaves_nothing_behind(tmp_path: Path, error: BaseException, exists: bool) -> None:
    target = tmp_path / "out"
    if exists:
        target.mkdir()
        (target / "x").write_text("old")

    def fail() -> None:
        with staging(target) as stage:
            (stage / "x").write_text("half")
            (stage / "below").mkdir()
            raise error

    with pytest.raises(error):
        fail()
    assert left(tmp_path) == (["out"] if exists else [])
    assert not exists or (target / "x").read_text() == "old"


def test_staging_replaces_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / RECORD).touch()
    with staging(target, overwrite=True) as stage:
        (stage / "new").touch()
        assert left(target) == [RECORD]
    assert left(tmp_path) == ["out"]
    assert left(target) == ["new"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("made", ["folder", "file"])
def test_what_has_come_to_lie_there_meanwhile_is_kept(
    tmp_path: Path, overwrite: bool, made: str
) -> None:
    target = tmp_path / "out"
    thesis = target / "thesis.txt" if made == "folder" else target

    def write() -> None:
        with staging(target, overwrite=overwrite) as stage:
            (stage / "x").touch()
            thesis.parent.mkdir(exist_ok=True)
            thesis.write_text("years of work")

    with pytest.raises(OutputError, match="meanwhile"):
        write()
    assert thesis.read_text() == "years of work"
    assert left(tmp_path) == ["out"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"stopped: No space left .*nothing was kept"):  # noqa: SIM117
        with staging(tmp_path / "out"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")
    assert left(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), KeyboardInterrupt()])
def test_the_old_is_kept_where_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "x").write_text("old")
    (target / RECORD).touch()
    rename = Path.rename

    def renamed(self: Path, to: Path) -> Path:
        if self.suffix == ".partial":
            raise error
        return rename(self, to)

    def replace() -> None:
        with staging(target, overwrite=True) as stage:
            (stage / "x").write_text("new")

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        replace()
    assert left(tmp_path) == ["out"]
    assert (target / "x").read_text() == "old"


def test_staging_through_a_link_replaces_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("old")
    (tmp_path / "real" / RECORD).touch()
    target = tmp_path / "out"
    target.symlink_to(tmp_path / "real")
    with staging(target, overwrite=True) as stage:
        (stage / "x").write_text("new")
    assert (tmp_path / "real" / "x").read_text() == "new"
    assert target.is_symlink()
    assert left(tmp_path) == ["out", "real"]


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"out cannot be created .*choose another"):  # noqa: SIM117
        with staging(tmp_path / "file" / "out"):
            pass


def check(target: Path, *sources: Checkpoint, overwrite: bool = False) -> None:
    check_target(target, list(sources), overwrite=overwrite)


def test_a_free_place_is_fine(tmp_path: Path, sharded: Checkpoint) -> None:
    check(tmp_path / "out", sharded)
    check(tmp_path / "a" / "b" / "out", sharded)
    (tmp_path / "empty").mkdir()
    check(tmp_path / "empty", sharded)
    assert left(tmp_path) == ["base", "empty"]


@pytest.mark.parametrize("where", ["base", "base/below", ".", "base/../base", "link"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_the_sources_are_never_written_to(
    tmp_path: Path, sharded: Checkpoint, where: str, overwrite: bool
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "base")
    with pytest.raises(OutputError, match=r"same folder, or one lies in the other; choose another"):
        check(tmp_path / where, sharded, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_output_of_ours_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter.tex").touch()
    (tmp_path / "file").touch()
    for place in (target, tmp_path / "file"):
        with pytest.raises(OutputError, match="is no output of this program, so it is never repl"):
            check(place, overwrite=overwrite)


def test_an_earlier_output_is_replaced_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / RECORD).touch()
    with pytest.raises(OutputError, match=r"out exists; choose another output, or give --overwr"):
        check(target)
    check(target, overwrite=True)


def test_too_little_space_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000_000))
    check_space(tmp_path / "out", 1_500_000_000)
    with pytest.raises(OutputError, match=r"needs about 2\.5 GB and the disk has 1\.5 GB; free"):
        check_space(tmp_path / "below" / "out", 2_500_000_000)


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match=r"out cannot be created in .*choose another output"):
        check(tmp_path / "out")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"out cannot be created in .*choose another output"):
        check(tmp_path / "file" / "out")
