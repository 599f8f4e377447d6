"""The folder: what is finished is found again, and nothing else in it is touched."""

import json
import os
from pathlib import Path

import pytest

from tokswap.comparison.store import RECORD, RESULTS, Store
from tokswap.errors import OutputError

PAIR = ("a", "b")
KEY = "0123456789abcdef" + "0" * 48


def begun(folder: Path) -> Store:
    store = Store(folder, PAIR)
    store.begin()
    return store


def test_what_is_put_is_found_by_another(tmp_path: Path) -> None:
    begun(tmp_path / "new" / "out").put(KEY, "omp k=8 / ü?", {"figures": {"x": 1.5}})
    store = begun(tmp_path / "new" / "out")
    assert store.find(KEY) == {"key": KEY, "figures": {"x": 1.5}}
    assert store.find("f" * 64) is None
    (path,) = (store.folder / RESULTS).iterdir()
    assert path.name == "omp-k=8-ü-0123456789abcdef.json"


def test_a_run_that_is_called_otherwise_is_kept_once(tmp_path: Path) -> None:
    store = begun(tmp_path / "out")
    store.put(KEY, "one", {"n": 1})
    store.put(KEY, "other", {"n": 2})
    assert [path.name for path in (store.folder / RESULTS).iterdir()] == [
        "other-0123456789abcdef.json"
    ]
    assert store.find(KEY) == {"key": KEY, "n": 2}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "other"}', b"\xff", "changed"])
def test_what_is_damaged_is_as_if_not_there(tmp_path: Path, damage: bytes | str) -> None:
    store = begun(tmp_path / "out")
    store.put(KEY, "one", {"n": 1})
    path = store.folder / RESULTS / "one-0123456789abcdef.json"
    changed = path.read_bytes().replace(b'"n": 1', b'"n": 2')
    path.write_bytes(changed if isinstance(damage, str) else damage)
    assert store.find(KEY) is None


def test_what_a_killed_run_was_writing_goes_and_what_others_wrote_stays(tmp_path: Path) -> None:
    store = begun(tmp_path / "out")
    half = [store.folder / ".compare.csv.0123abcd.partial"]
    half.append(store.folder / RESULTS / ".omp-0123456789abcdef.json.0123abcd.partial")
    own = [store.folder / "notes.txt", store.folder / RESULTS / ".hidden.partial"]
    now = store.folder / ".compare.png.0123abcd.partial"  # which another run is writing
    for path in [*half, *own, now]:
        path.write_text("x")
        if path != now:
            os.utime(path, (1, 1))
    begun(tmp_path / "out")
    assert not any(path.exists() for path in half)
    assert all(path.read_text() == "x" for path in [*own, now])


def test_a_run_that_was_killed_at_its_very_beginning_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / ".compare.json.0123abcd.partial").write_text("{")
    begun(tmp_path).put(KEY, "one", {"n": 1})
    assert begun(tmp_path).find(KEY) == {"key": KEY, "n": 1}


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    begun(tmp_path)
    assert json.loads((tmp_path / RECORD).read_text())["pair"] == ["a", "b"]


def test_a_folder_with_something_else_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(OutputError, match="exists and is no comparison, so nothing is written"):
        Store(tmp_path, PAIR)
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(OutputError, match="is no comparison"):
        Store(tmp_path, PAIR)
    with pytest.raises(OutputError, match="is no comparison"):
        Store(tmp_path / "model.safetensors", PAIR)
    assert (tmp_path / "model.safetensors").read_text() == "weights"
    assert (tmp_path / RECORD).read_text() == "{}"


def test_one_folder_is_for_one_pair(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    with pytest.raises(OutputError, match="compares methods on a and b; choose another --out for"):
        Store(tmp_path / "out", ("a", "c"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_before_anything(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written in"):
        Store(tmp_path / "out", PAIR)


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot be written in .*file; choose another --out"):
        Store(tmp_path / "file" / "out", PAIR)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    store = begun(tmp_path / "out")
    store.write("a.csv", b"old")
    (store.folder / "b.csv").mkdir()
    with pytest.raises(OutputError, match=r"b\.csv cannot be written"):
        store.write("b.csv", b"new")
    assert (store.folder / "a.csv").read_bytes() == b"old"
    assert not list(store.folder.glob(".*.partial"))
