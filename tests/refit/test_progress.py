"""How far a matching has come is found again; a run that was stopped ends with the same rows."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.refit.made import Bench
from tests.refit.test_matching import Planted
from tokswap.ranks import Ranks
from tokswap.refit import progress
from tokswap.refit.matching import Matcher
from tokswap.refit.progress import MatchProgress, Reached

KEY = "a" * 64


def reached(done: int = 3) -> Reached:
    generator = torch.Generator().manual_seed(done)
    rows, first, second = torch.randn(3, 5, 4, generator=generator)
    return Reached(done, 7, rows, first, second.square())


def same(one: Reached, other: Reached) -> bool:
    tensors = ("rows", "first", "second")
    alike = all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    return alike and (one.done, one.total) == (other.done, other.total)


def test_what_was_kept_is_found_by_its_key_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert MatchProgress(folder, KEY, Ranks()).find() is None
    MatchProgress(folder, KEY, Ranks()).keep(reached(), now=True)
    found = MatchProgress(folder, KEY, Ranks()).find()
    assert found is not None
    assert same(found, reached())
    assert MatchProgress(folder, "b" * 64, Ranks()).find() is None
    assert len(list(folder.iterdir())) == 1  # and no partial one


def test_a_file_is_written_when_the_last_one_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = MatchProgress(tmp_path, KEY, Ranks())
    kept.keep(reached(1))
    assert kept.find() is None
    monkeypatch.setattr(progress, "EVERY", 0.0)
    kept.keep(reached(2))
    monkeypatch.undo()
    kept.keep(reached(3))
    found = kept.find()
    assert found is not None
    assert found.done == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 8),
        lambda path: path.write_bytes(b"not at all"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut short", "something else", "empty"],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    kept = MatchProgress(tmp_path, KEY, Ranks())
    kept.keep(reached(), now=True)
    (path,) = tmp_path.iterdir()
    damage(path)
    assert kept.find() is None
    kept.keep(reached(5), now=True)
    found = kept.find()
    assert found is not None
    assert found.done == 5


def test_what_cannot_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = MatchProgress(tmp_path / "file", KEY, Ranks())
    kept.keep(reached(), now=True)
    assert kept.find() is None


class StoppedAfter(MatchProgress):
    """Keeps every step, and stops after one of them."""

    def __init__(self, folder: Path, last: int | None) -> None:
        super().__init__(folder, KEY, Ranks())
        self.last, self.steps = last, list[int]()

    def keep(self, reached: Reached, *, now: bool = False) -> None:
        self.steps.append(reached.done)
        super().keep(reached, now=True)
        if reached.done == self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("last", [1, 4])
@pytest.mark.parametrize("steps", [6, None], ids=["so many steps", "as many as there is time for"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    untied: Bench, tmp_path: Path, steps: int | None, last: int
) -> None:
    planted = Planted(untied)
    # Three steps an epoch: it is stopped in the second, and without `steps` goes through three.
    lessons = planted.lessons[0][:20], planted.lessons[1]

    def learn(last: int | None, folder: str) -> tuple[Any, list[int]]:
        kept = StoppedAfter(tmp_path / folder, last)
        matcher: Matcher = replace(planted.matcher, progress=kept)
        said: dict[str, Any] = {"minutes": 60.0, "steps": steps, "seed": 1, "size": planted.size}
        try:
            found = matcher.learn(lessons, planted.noise(), **said)
        except KeyboardInterrupt:
            return None, kept.steps
        return found, kept.steps

    whole, taken = learn(None, "whole")
    assert taken == list(range(1, (steps or 9) + 1))
    stopped, taken = learn(last, "stopped")
    assert stopped is None
    assert taken == list(range(1, last + 1))
    resumed, taken = learn(None, "stopped")
    assert taken == list(range(last + 1, (steps or 9) + 1))
    assert torch.equal(resumed.rows, whole.rows)
    assert (resumed.before, resumed.after, resumed.steps) == (
        whole.before,
        whole.after,
        whole.steps,
    )
    again, taken = learn(None, "stopped")  # the last step is kept, too
    assert taken == []
    assert torch.equal(again.rows, whole.rows)


def test_a_run_that_was_stopped_at_once_still_keeps_to_its_minutes(
    untied: Bench, tmp_path: Path
) -> None:
    planted = Planted(untied)

    def learn(last: int | None) -> list[int]:
        kept = StoppedAfter(tmp_path, last)
        matcher = replace(planted.matcher, progress=kept)
        with suppress(KeyboardInterrupt):
            matcher.learn(
                planted.lessons, planted.noise(), minutes=0.0, steps=None, seed=0, size=planted.size
            )
        return kept.steps

    assert learn(2) == [1, 2]
    assert learn(None) == [3]
