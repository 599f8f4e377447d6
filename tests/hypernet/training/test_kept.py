"""Kept states: each whole or not there, as many as are asked for, and damage told by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hypernet.made import settings
from tokswap.errors import TokswapError, TrainingError
from tokswap.hypernet.config import read_config
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.published import open_published
from tokswap.hypernet.training import kept as module
from tokswap.hypernet.training.kept import NUMBERS, STATE, STATES, keep, last_state, plain, restore

LAYOUT: dict[str, Any] = {
    "base_config": {"vocab_size": 50, "hidden_size": 12},
    "tokenizer": {"version": "1.0"},
    "special": {"eos_token": "</s>"},
    "about": {"base": {"name": "b"}},
}
Keep = Callable[..., Path]


def network(seed: int = 0) -> Hypernet:
    config = read_config(settings("untied language"), "made")
    return Hypernet(config, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def kept(tmp_path: Path) -> Keep:
    def write(step: int, *, seed: int = 0, most: int = 2, **numbers: Any) -> Path:
        return keep(
            tmp_path, step, network(seed), {"step.x": torch.tensor([float(step)]), **numbers},
            layout=LAYOUT, recipe={"seed": seed}, texts=[{"done": step}], most=most,
        )  # fmt: skip

    return write


def there(out: Path) -> list[str]:
    return sorted(path.name for path in (out / STATES).iterdir())


def test_a_state_comes_back(kept: Keep, tmp_path: Path) -> None:
    folder = kept(7, seed=3)
    state = last_state(tmp_path)
    assert state is not None
    assert (state.folder, state.step, state.recipe, state.texts) == (
        folder, 7, {"seed": 3}, [{"done": 7}],
    )  # fmt: skip
    other = network(4)
    other.in_scaler.requires_grad_(requires_grad=False)
    assert {name: float(t) for name, t in restore(state, other).items()} == {"step.x": 7.0}
    for (name, a), b in zip(
        network(3).state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert not other.in_scaler.w.requires_grad


def test_a_state_is_a_hypernetwork_too(kept: Keep) -> None:
    opened = open_published(str(kept(1, seed=5)))
    found = opened.load().state_dict()
    assert all(torch.equal(found[name], t) for name, t in network(5).state_dict().items())


def test_older_states_go(kept: Keep, tmp_path: Path) -> None:
    assert last_state(tmp_path) is None
    for step in (9, 10, 100):
        kept(step)
    assert there(tmp_path) == ["step-00000010", "step-00000100"]
    kept(101, most=1)
    assert there(tmp_path) == ["step-00000101"]


def test_a_state_of_the_same_step_is_written_over(kept: Keep, tmp_path: Path) -> None:
    kept(5, seed=1)
    kept(5, seed=2)
    assert there(tmp_path) == ["step-00000005"]
    state = last_state(tmp_path)
    assert state is not None
    assert state.recipe == {"seed": 2}


@pytest.mark.parametrize("fails", ["save", "_to_disk", "disk"])
def test_a_state_that_cannot_be_written_leaves_the_last_one(
    fails: str, kept: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(1, seed=1)
    kept(2, seed=2)

    def full(*args: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if fails == "disk":  # a folder stands where a file is to be written
            patch.setattr(module, "NUMBERS", "no/such/folder.safetensors")
        else:
            patch.setattr(module, fails, full)
        with pytest.raises(TrainingError, match=r"step 3 cannot be kept in .*states"):
            kept(3, seed=3)
    state = last_state(tmp_path)
    assert state is not None
    assert state.step == 2
    restore(state, network())
    kept(4, seed=4)
    assert there(tmp_path) == ["step-00000002", "step-00000004"]


def test_what_a_kill_has_left_is_no_state(kept: Keep, tmp_path: Path) -> None:
    kept(1)
    left = tmp_path / STATES / ".step-00000002.partial"
    left.mkdir()
    (left / STATE).write_text("{}")
    state = last_state(tmp_path)
    assert state is not None
    assert state.step == 1
    kept(3)
    assert there(tmp_path) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"step": 1}', '{"step": "x"}'])
def test_a_damaged_state_is_told(text: str | None, kept: Keep, tmp_path: Path) -> None:
    path = kept(1) / STATE
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(
        TrainingError, match=r"state.json cannot be read .*; remove .*step-00000001"
    ):
        last_state(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", NUMBERS])
@pytest.mark.parametrize("damage", ["cut", "missing", "other"])
def test_damaged_weights_are_told(name: str, damage: str, kept: Keep, tmp_path: Path) -> None:
    path = kept(1) / name
    if damage == "missing":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xff" * 100)
    state = last_state(tmp_path)
    assert state is not None
    with pytest.raises(
        TrainingError, match=r"is damaged .*; remove it to go on from the state before"
    ):
        restore(state, network())


def test_weights_of_another_network_are_told(kept: Keep, tmp_path: Path) -> None:
    kept(1)
    state = last_state(tmp_path)
    assert state is not None
    other = Hypernet(read_config(settings("tied"), "made"))
    with pytest.raises(TokswapError, match="step-00000001"):
        restore(state, other)


def test_a_plain_copy_stays_as_it_was() -> None:
    made = network(1)
    copy = plain(made)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1.0)
    for (name, a), b in zip(
        copy.state_dict().items(), network(1).state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert json.dumps(copy.config.model_dump()) == json.dumps(made.config.model_dump())
