"""Several processes in one run: the same bytes as one, and one error for all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tokswap import blocks, ranks
from tokswap.blocks import Blocks
from tokswap.kept_blocks import KeptBlocks
from tokswap.pipeline import transplant

SETTINGS = ["--base", "tiny-llama", "--donor", "tiny-mistral", "--set", "method.k=8", "--no-eval"]
SETTINGS += ["--set", "method.mode=fast"]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_processes_write_what_one_does(tmp_path: Path) -> None:
    """Two blocks, one for each rank, started as a user would."""
    port = ["--master-port", str(free_port())]
    ran = subprocess.run(
        [*LAUNCH, *port, "-m", "tokswap", "transplant", *SETTINGS, "--no-verify", "--out", "two"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.count("wrote two (align")) == (0, 1), ran.stderr
    assert ran.stderr.count("omp, input rows ...") == 1
    one = transplant(
        base_model="tiny-llama",
        donor="tiny-mistral",
        parameters={"k": 8, "mode": "fast"},
        eval=False,
        verify=False,
        out=str(tmp_path / "one"),
    )
    assert one.record["counts"]["missing"] > 1024
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


SCRIPT = """
import json, os, signal, sys, warnings
from pathlib import Path
import torch
from torch import distributed
from tokswap import blocks, kept_blocks
from tokswap.blocks import Blocks
from tokswap.errors import MethodError
from tokswap.kept_blocks import KeptBlocks
from tokswap.ranks import joined, number

warnings.simplefilter("error")
torch.set_num_threads(1)
blocks.ROWS, kept_blocks.WORTH = 10, 0.0
target = Path(sys.argv[1])

def solve_for(what):
    def solve(start, stop):
        assert what != "resumed" or start >= 20
        if number() == 1 and start >= 30:
            if what == "refused":
                raise MethodError("there is no row 30; leave it out")
            if what == "bug":
                raise ZeroDivisionError("by nothing")
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        return (torch.arange(start, stop) * 3,)
    return solve

def run(what, solver):
    key = f"key {number()}" if what == "strangers" else "key"
    found = solver.run("test", key, 75, solve_for(what))[0]
    assert found.tolist() == [3 * row for row in range(75)]
    assert solver.run("again", key, 75, None)[0] is found

def scene(what):
    with joined() as ranks:
        if what == "early" and ranks.first:
            raise MethodError("the first cannot begin; help it")
        if not ranks.first:
            run(what, Blocks(ranks=ranks))
            if what == "late":
                raise MethodError("it is over too soon; wait")
            return
        with KeptBlocks(target, resume=what == "resumed").held() as keep:
            solver = Blocks(ranks=ranks, keep=keep)
            run(what, solver)
            ranks.part()
            solver.finish()

for what, port in json.loads(sys.argv[2]):
    os.environ["MASTER_PORT"] = str(port)
    if what == "guest":  # of a program that has joined its ranks by itself
        distributed.init_process_group("gloo")
    try:
        scene(what)
        print("solved", flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    if what == "guest":
        distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def launch(*scenes: str, target: Path) -> list[tuple[int, list[str], str]]:
    """Run the script on two ranks, without a launcher that would end them all.

    Returns:
        Of each rank the exit code, a line for each scene, and what it wrote to stderr.
    """
    said = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    ports = json.dumps([(scene, free_port()) for scene in scenes])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, target, ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {key: str(value) for key, value in (said | {"RANK": rank}).items()},
        )
        for rank in range(2)
    ]
    found = []
    for process in running:
        out, err = process.communicate(timeout=120)
        found.append((process.returncode, out.splitlines(), err))
    return found


ERRORS = {
    "early": ("MethodError: the first cannot begin", "RankError: rank 0 of 2: the first cannot"),
    "strangers": ("RankError: rank 0 has another question", "RankError: rank 1 has another quest"),
    "late": ("RankError: rank 1 of 2: it is over too soon", "MethodError: it is over too soon"),
    "bug": ("RankError: rank 1 of 2: ZeroDivisionError: by nothing", "ZeroDivisionError: by"),
    "refused": ("RankError: rank 1 of 2: there is no row 30; leave", "MethodError: there is no"),
    "resumed": ("solved", "solved"),
    "guest": ("solved", "solved"),
    "killed": ("RankError: rank 0 lost another one, which ended without a word", None),
}
"""What comes of each scene in the first and the second rank. The second keeps no files."""


def test_an_error_of_one_rank_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code, first, err), (other_code, second, other_err) = launch(*ERRORS, target=tmp_path / "out")
    assert (code, err, other_code, other_err) == (0, "", -9, "")
    for line, (expected, _) in zip(first, ERRORS.values(), strict=True):
        assert line.startswith(expected)
    for line, (_, words) in zip(second, list(ERRORS.values())[:-1], strict=True):
        assert line.startswith(str(words))

    # What was kept before the last of them was killed serves one process as well.
    monkeypatch.setattr(blocks, "ROWS", 10)
    solved = []

    def solve(start: int, stop: int) -> tuple[Tensor, ...]:
        solved.append(start)
        return (torch.arange(start, stop) * 3,)

    with KeptBlocks(tmp_path / "out", resume=True).held() as keep:
        (found,) = Blocks(keep=keep).run("test", "key", 75, solve)
    assert torch.equal(found, torch.arange(75) * 3)
    assert solved == [20, 30, 40, 50, 60, 70]


def test_alone_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as a cluster's queue may set it
    monkeypatch.setenv("RANK", "3")
    assert ranks.number() == 0
    with ranks.joined() as alone:
        assert (alone.first, alone.world) == (True, 1)
        assert alone.share(b"x") == [b"x"]
        assert alone.device("cuda") == "cuda"
