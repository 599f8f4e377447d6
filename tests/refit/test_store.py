"""States in files: what was put is found again, by its own key alone."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tokswap.errors import RefitError
from tokswap.refit.store import Packed, StateStore, packed, state_bytes

KEY = "a" * 16


def block(seed: int = 0, size: float = 1.0, count: int = 40) -> Packed:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 8, generator=generator) * size
    target = torch.randint(-1, 5, (count,), generator=generator)
    return packed(states, states.sum(1), target, torch.rand(count, generator=generator))


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "states", KEY, 3, memory=0)


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["from files", "from memory"])
def test_what_was_put_is_found_as_often_as_asked(tmp_path: Path, memory: int) -> None:
    store = StateStore(tmp_path / "states", KEY, 3, memory=memory)
    blocks = [block(seed) for seed in range(3)]
    for number in (2, 0, 1):
        store.put(number, blocks[number])
    assert store.left() == []
    for _ in range(2):
        for found, put in zip(store.positions([0, 1, 2], "cpu"), blocks, strict=True):
            assert found.target.dtype == torch.int64
            assert torch.equal(found.states, put["states"])
            assert torch.equal(found.rest, put["rest"])
            assert torch.equal(found.target, put["target"].long())
            assert torch.equal(found.weights, put["weights"])
        if memory:  # they are read once
            for path in store.folder.iterdir():
                path.unlink()


def test_states_are_kept_in_half_precision_where_it_can_hold_them() -> None:
    fitting, large = block(size=100.0), block(size=1e5)
    assert fitting["states"].dtype == torch.float16
    assert large["states"].dtype == torch.float32
    assert bool(large["states"].isfinite().all())
    assert float(large["states"].abs().max()) > 65_504
    assert packed(*(torch.zeros(0, 8), *[torch.zeros(0)] * 3))["states"].shape == (0, 8)


def test_the_bytes_are_those_that_are_told() -> None:
    made = block(count=1000)
    assert sum(tensor.nbytes for tensor in made.values()) == state_bytes(1000, 8)


def test_only_blocks_of_its_own_key_are_found(store: StateStore) -> None:
    store.put(0, block())
    store.put(2, block(2))
    assert StateStore(store.folder, KEY, 4, memory=0).left() == [1, 3]
    other = StateStore(store.folder, "b" * 16, 3, memory=0)
    assert other.left() == [0, 1, 2]
    other.clear()  # which would otherwise stay for ever
    assert not store.folder.exists()


def test_clearing_leaves_what_is_not_its_own(store: StateStore) -> None:
    store.put(0, block())
    (store.folder / "notes.txt").write_text("mine")
    store.clear()
    assert [path.name for path in store.folder.iterdir()] == ["notes.txt"]


def test_a_damaged_file_is_told_and_made_anew(store: StateStore) -> None:
    store.put(1, block())
    (path,) = store.folder.iterdir()
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(RefitError, match=r"-000001\.safetensors cannot be read .*; run again"):
        store.get(1)
    assert store.left() == [0, 1, 2]
    with pytest.raises(RefitError, match=r"-000001\.safetensors cannot be read"):
        store.get(1)


def test_what_cannot_be_written_is_told(store: StateStore) -> None:
    shutil.rmtree(store.folder)
    with pytest.raises(RefitError, match=r"states cannot be written \(.*o such file .*; make room"):
        store.put(0, block())


def test_a_disk_that_is_too_small_is_told_with_figures(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1_000_000))
    store.check_room(1_000, 100)
    said = r"the states of 200,000 tokens of width 100 take 42\.4 ?MB, and 1.* free in "
    with pytest.raises(RefitError, match=said):
        store.check_room(200_000, 100)
    for number in range(3):  # what is there already takes no more room
        store.put(number, block())
    store.check_room(200_000, 100)
