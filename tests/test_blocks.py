"""Solving in blocks: the same answer however it is cut short, kept and gone on with."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tokswap import blocks, kept_blocks, progress
from tokswap.blocks import Blocks, digest, pack, unpack
from tokswap.carry_out import Transplant
from tokswap.errors import MethodError, OutputError
from tokswap.kept_blocks import KeptBlocks
from tokswap.pipeline import transplant

COUNT = 35


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 10)
    monkeypatch.setattr(kept_blocks, "WORTH", 0.0)


class Question:
    """Rows that are told apart, and which of them were solved."""

    def __init__(self, fail_at: int | None = None, error: type[BaseException] = KeyboardInterrupt):
        self.solved: list[tuple[int, int]] = []
        self.fail_at, self.error = fail_at, error

    def __call__(self, start: int, stop: int) -> tuple[Tensor, ...]:
        if start == self.fail_at:
            raise self.error
        self.solved.append((start, stop))
        rows = torch.arange(start, stop)
        return rows[:, None].repeat(1, 3), rows.to(torch.bfloat16) / 3


def ask(solve: Question, keep: KeptBlocks | None = None, key: str = "key") -> tuple[Tensor, ...]:
    return Blocks(keep=keep).run("test", key, COUNT, solve)


def expected() -> tuple[Tensor, ...]:
    return Question()(0, COUNT)


def same(found: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, other, strict=True))


def stopped(target: Path, fail_at: int, *, resume: bool = False) -> None:
    """Run until a block is interrupted."""
    with pytest.raises(KeyboardInterrupt), KeptBlocks(target, resume=resume).held() as keep:
        ask(Question(fail_at), keep)


def resumed(target: Path, key: str = "key") -> Question:
    """Go on; return which rows were still to solve."""
    question = Question()
    with KeptBlocks(target, resume=True).held() as keep:
        assert same(ask(question, keep, key), expected())
    return question


def test_blocks_are_put_together_in_order() -> None:
    question = Question()
    assert same(ask(question), expected())
    assert question.solved == [(0, 10), (10, 20), (20, 30), (30, 35)]


def test_no_rows_have_an_answer_too() -> None:
    found = Blocks().run("test", "key", 0, Question())
    assert [tuple(tensor.shape) for tensor in found] == [(0, 3), (0,)]


def test_the_same_question_is_answered_once() -> None:
    both, question = Blocks(), Question()
    first = both.run("input", "key", COUNT, question)
    assert both.run("output", "key", COUNT, question) is first
    assert len(question.solved) == 4
    both.run("output", "another", COUNT, question)
    assert len(question.solved) == 8


def test_a_wrong_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows 0 to 10 came as \[\(9,\)\]; give one for each"):
        Blocks().run("test", "key", COUNT, lambda start, stop: (torch.zeros(stop - start - 1),))


def test_a_digest_tells_values_types_shapes_and_settings_apart() -> None:
    rows = torch.arange(6, dtype=torch.float32)
    others = [rows, rows + 1, rows.double(), rows.reshape(2, 3), rows[:5], rows.to(torch.bfloat16)]
    found = [digest(other) for other in others]
    found += [digest(rows, 1), digest(rows, 1.0), digest(rows, None), digest(rows, "1")]
    assert len(set(found)) == len(found)
    assert digest(rows.reshape(2, 3).T) == digest(rows.reshape(2, 3).T.contiguous())
    assert digest(rows[::2]) == digest(torch.tensor([0.0, 2.0, 4.0]))


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    stopped(tmp_path / "out", 20)
    assert resumed(tmp_path / "out").solved == [(20, 30), (30, 35)]
    assert resumed(tmp_path / "out").solved == []


def test_a_resumed_run_can_be_stopped_again(tmp_path: Path) -> None:
    stopped(tmp_path / "out", 10)
    stopped(tmp_path / "out", 30, resume=True)
    assert resumed(tmp_path / "out").solved == [(30, 35)]


def test_without_resume_it_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_shown", True)
    stopped(tmp_path / "out", 20)
    assert "2 finished blocks are kept" in capsys.readouterr().err
    stopped(tmp_path / "out", 0)  # before there is anything new, nothing is thrown away
    assert len(list((tmp_path / ".out.blocks").iterdir())) == 2
    said = capsys.readouterr().err
    assert "2 finished blocks of an earlier run, and this one starts over; --resume would" in said
    stopped(tmp_path / "out", 10)
    assert resumed(tmp_path / "out").solved == [(10, 20), (20, 30), (30, 35)]


def test_what_was_kept_goes_when_the_output_is_there(tmp_path: Path) -> None:
    stopped(tmp_path / "out", 20)
    with KeptBlocks(tmp_path / "out", resume=True).held() as keep:
        solver = Blocks(keep=keep)
        solver.run("test", "key", COUNT, Question())
        assert len(list(keep.folder.iterdir())) == 4
        solver.finish()
    assert list(tmp_path.iterdir()) == []


def test_short_solving_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_blocks, "WORTH", 60.0)
    stopped(tmp_path / "out", 20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "header", "other", "missing"])
def test_a_damaged_block_is_solved_again(tmp_path: Path, damage: str) -> None:
    stopped(tmp_path / "out", 30)
    _, two, three = sorted((tmp_path / ".out.blocks").iterdir())
    data = two.read_bytes()
    changed = {
        "cut": data[:-1],
        "empty": b"",
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "header": b"\xff" * 8 + data[8:],
        "other": three.read_bytes(),
    }
    two.write_bytes(changed.get(damage, b""))
    if damage == "missing":
        two.unlink()
    assert resumed(tmp_path / "out").solved == [(10, 20), (30, 35)]
    assert two.read_bytes() != changed.get(damage)
    assert resumed(tmp_path / "out").solved == []


def test_blocks_of_another_question_are_of_no_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_shown", True)
    stopped(tmp_path / "out", 20)
    assert len(resumed(tmp_path / "out", "another").solved) == 4
    said = capsys.readouterr().err
    assert said.count("answer another question") == 1
    assert resumed(tmp_path / "out", "another").solved == []
    assert "another question" not in capsys.readouterr().err


def test_torchs_version_and_the_solvers_are_part_of_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path / "out", 20)
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert len(resumed(tmp_path / "out").solved) == 4


def test_a_block_says_what_it_is_of() -> None:
    block = expected()
    data = pack(block, "key", 3)
    assert same(unpack(data, "key", 3), block)
    for key, number in (("key", 2), ("other", 3)):
        with pytest.raises(ValueError, match="is of another question, or damaged"):
            unpack(data, key, number)


HOLD = """
import sys
from pathlib import Path
from tokswap.kept_blocks import KeptBlocks
with KeptBlocks(Path(sys.argv[1]), resume=True).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_to_the_same_output_touches_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    stopped(target, 20)
    before = {path.name: path.read_bytes() for path in (tmp_path / ".out.blocks").iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=r"held by another run .* still at work; wait for it"):
            resumed(target)
        question = Question()
        with KeptBlocks(target, resume=False).held() as keep:
            solver = Blocks(keep=keep)
            assert same(solver.run("test", "key", COUNT, question), expected())
            solver.finish()
        assert len(question.solved) == 4
        other.communicate()
    assert {path.name: path.read_bytes() for path in (tmp_path / ".out.blocks").iterdir()} == before


def test_a_disk_that_takes_nothing_does_not_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_shown", True)
    (tmp_path / "file").touch()
    with KeptBlocks(tmp_path / "file" / "out", resume=False).held() as keep:
        assert same(ask(Question(), keep), expected())
    assert capsys.readouterr().err.count("cannot be written (Not a directory), so this run") == 1


PAIR = {"base_model": "tiny-llama", "donor": "tiny-mistral", "eval": False, "verify": False}
STOP = """
import os, signal, sys
from tokswap import blocks, kept_blocks
from tokswap.pipeline import transplant
blocks.ROWS, kept_blocks.WORTH = 256, 0.0
put, count = kept_blocks.KeptBlocks.put, 0
def stopping(*block):
    global count
    put(*block)
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
kept_blocks.KeptBlocks.put = stopping
transplant(
    base_model="tiny-llama", donor="tiny-mistral", parameters={"k": 8}, out="out",
    eval=False, verify=False,
)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def swap(out: Path, **said: object) -> Transplant:
    return transplant(**(PAIR | {"parameters": {"k": 8}, "out": str(out)} | said))


def test_a_killed_transplant_is_gone_on_with_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = subprocess.run([sys.executable, "-c", STOP], cwd=tmp_path, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".out.blocks"]

    monkeypatch.setattr(blocks, "ROWS", 256)
    monkeypatch.setattr(progress, "_shown", True)
    swap(tmp_path / "out", resume=True)
    assert "omp, input rows: 3 of 5 blocks are there from an earlier" in capsys.readouterr().err
    monkeypatch.setattr(progress, "_shown", False)
    swap(tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_memory_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 1024)
    swap(tmp_path / "little", memory="7MB")
    swap(tmp_path / "much", memory="2GiB")
    assert contents(tmp_path / "little") == contents(tmp_path / "much")
    record = json.loads((tmp_path / "little" / "tokswap.json").read_text())
    assert "memory" not in record["recipe"]


def test_too_little_memory_is_told_with_what_is_enough(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"needs .* at least, and may take 1MB; give") as caught:
        swap(tmp_path / "out", memory="1MB")
    enough = str(caught.value).partition("--memory ")[2].partition(" ")[0]
    swap(tmp_path / "out", memory=enough)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_roles_that_ask_the_same_are_solved_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untied base and a tied donor."""
    monkeypatch.setattr(progress, "_shown", True)
    pair = {"base_model": "tiny-mistral", "donor": "tiny-llama"}
    swap(tmp_path / "out", **pair, parameters={"k": 2}, held_out=0)
    said = capsys.readouterr().err
    assert ("omp, input rows" in said, "omp, output rows" in said) == (True, False)
    swap(tmp_path / "omp", **pair, method="omp", parameters={"k": 2}, held_out=0)
    said = capsys.readouterr().err
    assert ("omp, input rows" in said, "omp, output rows" in said) == (True, False)
