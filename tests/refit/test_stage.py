"""The refit as a stage of a transplant: its files, in the end and where it is stopped."""

from pathlib import Path
from typing import Any

import pytest

from tests.refit.made import Bench
from tokswap.blocks import Blocks
from tokswap.plan import Plan
from tokswap.recipe import make_recipe
from tokswap.refit import heads, stage
from tokswap.refit.context import Context
from tokswap.refit.stage import refit_beside
from tokswap.refit.states import Reader


@pytest.fixture
def run(untied: Bench, text: Path, tmp_path: Path) -> Any:
    def made(*, resume: bool = False) -> tuple[Plan, list[str]]:
        said = {"text": str(text), "tokens": 3_000, "window": 64, "blend": False, "strength": 30}
        said["written"] = 0
        names = {"base_model": "tiny-mistral", "donor": "tiny-llama"}
        recipe = make_recipe(names | {"refit": said})
        target = tmp_path / "out"
        places: dict[str, Any] = {"device": "cpu", "blocks": Blocks(), "resume": resume}
        return refit_beside(target, untied.pair, untied.plan, recipe, **places)

    return made


def test_nothing_is_left_but_what_is_told(run: Any, tmp_path: Path) -> None:
    plan, notes = run()
    assert plan.about["refit"]["output"]["part"] == 1
    assert notes[-1].endswith("--set refit.tokens=N reads more")
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_run_is_gone_on_with(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "note", print)
    folder, read, numbers = tmp_path / ".out.refit", Reader.read, list[int]()

    def stopping(*_given: Any, **_said: Any) -> Any:
        raise KeyboardInterrupt

    def counted(reader: Reader, number: int, *block: Any) -> Any:
        numbers.append(number)
        return read(reader, number, *block)

    with monkeypatch.context() as patched:
        patched.setattr(heads, "fit_rows", stopping)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert len(list(folder.iterdir())) >= 3
    assert f"what was read is kept in {folder}; the same command with --resume" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr(Reader, "read", counted)
    resumed, _ = run(resume=True)
    assert numbers == []
    assert not folder.exists()
    # Without --resume it is read again, and the answer is the same.
    fresh, _ = run()
    assert len(numbers) >= 3
    assert fresh.about["refit"] == resumed.about["refit"]


def test_files_of_an_earlier_run_are_cleared_and_others_are_not(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "note", print)
    folder = tmp_path / ".out.refit"
    folder.mkdir()
    (folder / "old-000000.safetensors").write_bytes(b"old")
    (folder / "mine.txt").write_text("mine")

    def looking(context: Context, plan: Plan) -> Any:
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]
        return heads_fit(context, plan)

    heads_fit = heads.fit
    monkeypatch.setattr("tokswap.refit.refit.fit", looking)
    run()
    assert f"note: {folder} of an earlier run is cleared; --resume" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_run_that_is_stopped_before_it_has_read_leaves_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(tmp_path.iterdir()) == []
