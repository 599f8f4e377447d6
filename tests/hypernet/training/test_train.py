"""Whole trainings, small ones: the same losses however they are run, interrupted or shared."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tokswap.errors import OutputError, TrainingError
from tokswap.evaluation.measure import SAMPLE
from tokswap.hypernet.training.recipe import TrainRecipe, make_train_recipe
from tokswap.hypernet.training.train import train_hypernet as train
from tokswap.pipeline import transplant

HERE = Path(__file__).parent
STEPS, KEPT = 8, 3
SMALL: dict[str, Any] = {
    "base_model": "tiny-llama",
    "sources": [{"text": str(SAMPLE)}],
    "network": {"width": 32, "layers": 1, "heads": 2},
    "tokenizers": {"size": 1024, "tokens": 512, "stride": 1, "batches": 3, "copied": 0.5},
    "loss": {"chunks": 1.0},
    "optimizer": {"rate": 0.001, "identity_rate": 0.001, "warm_up": 2, "clip": 1.0},
    "identity_steps": 2,
    "identity_tokens": 101,
    "steps": STEPS,
    "texts": 5,
    "micro_texts": 2,
    "characters": 200,
    "length": 32,
    "keep_every": KEPT,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(out: Path, **said: Any) -> TrainRecipe:
    return make_train_recipe(SMALL | {"out": str(out)} | said)


def losses(out: Path) -> list[dict[str, Any]]:
    lines = (out / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def started(out: Path, *flags: str, **said: Any) -> "subprocess.Popen[str]":
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(SMALL | {"out": str(out)} | said), encoding="utf-8")
    command = [sys.executable, "-m", "tokswap", "hypernet", "train", str(config), *flags]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: "subprocess.Popen[str]", lines: int = 0) -> None:
    end = time.monotonic() + 120
    while not path.exists() or (lines and len(path.read_text().splitlines()) < lines):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody interrupted."""
    out = tmp_path_factory.mktemp("training") / "whole"
    train(small(out))
    return out


def test_it_leaves_a_network_its_losses_and_its_last_states(whole: Path) -> None:
    steps = [said["step"] for said in losses(whole)]
    assert steps == list(range(STEPS))
    assert all(math.isfinite(said["loss"]) for said in losses(whole))
    assert {"text", "auxiliary", "chunks", "bits_per_byte"} <= losses(whole)[-1].keys()
    assert (whole / "config.json").is_file()
    assert sorted(path.name for path in (whole / "states").iterdir()) == [
        "step-00000006",
        "step-00000008",
    ]
    assert list((whole / "logs").glob("events.out.tfevents.*"))


def test_the_same_losses_after_a_kill(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = started(out)
    wait_for(out / "states" / f"step-{KEPT:08d}", process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "config.json").exists()
    trained = train(small(out), resume=True)
    assert trained.steps == STEPS
    assert losses(out) == losses(whole)
    same = [(folder / "model.safetensors").read_bytes() for folder in (out, whole)]
    assert same[0] == same[1]


def test_an_interrupt_waits_for_the_step_and_keeps_it(tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    process = started(out, steps=10_000)
    wait_for(out / "losses.jsonl", process, lines=3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(losses(out))
    assert f"interrupted behind step {done:,}, which is kept; --resume goes on" in told
    assert (out / "states" / f"step-{done:08d}" / "state.json").is_file()
    assert "Traceback" not in told


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(whole: Path, tmp_path: Path) -> None:
    """Each with a part of the texts and of the tokens; then with a part of the weights too."""
    outs = [tmp_path / "shared", tmp_path / "sharded"]
    recipes = [small(out, shard=out.name == "sharded") for out in outs]
    for out, recipe in zip(outs, recipes, strict=True):
        out.with_suffix(".json").write_text(recipe.model_dump_json(), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launch, "--standalone", str(HERE / "in_processes.py")]
    command += [str(out.with_suffix(".json")) for out in outs]
    ran = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    alone = losses(whole)
    for out in outs:
        together = losses(out)
        assert [said["step"] for said in together] == list(range(STEPS))
        for one, other in zip(alone, together, strict=True):
            assert other == pytest.approx(one, rel=1e-5)
        weights = json.loads((out / "config.json").read_text(encoding="utf-8"))
        assert weights["original_vocab_size"] == 6144
        assert (out / "states" / f"step-{STEPS:08d}" / "optimizer.safetensors").is_file()


def test_the_stored_network_is_the_method_that_was_measured(tmp_path: Path) -> None:
    text = tmp_path / "some.txt"
    text.write_text(SAMPLE.read_text(encoding="utf-8")[:3000], encoding="utf-8")
    out = tmp_path / "measured"
    held_out = {"tokenizer": "tiny-mistral", "text": str(text)}
    trained = train(small(out, steps=4, held_out=held_out))
    result = transplant(
        base_model="tiny-llama",
        donor="tiny-mistral",
        method="hypernet",
        parameters={"checkpoint": str(out)},
        eval={"text": [str(text)]},
        held_out=0,
        verify=False,
        out=str(tmp_path / "out"),
    )
    assert result.evaluation is not None
    found = result.evaluation.results[1].bits_per_byte
    assert trained.held_out[4]["all"] == pytest.approx(found, rel=1e-6)
    assert trained.held_out[0]["all"] != trained.held_out[4]["all"]


def test_losses_that_are_not_finite_end_it_and_the_last_state_stays(tmp_path: Path) -> None:
    out = tmp_path / "burst"
    rates = {"rate": 1e30, "identity_rate": 0.001, "warm_up": 0, "clip": 0.0}
    with pytest.raises(TrainingError, match=r"is not finite .*behind step 3 is kept in .*states"):
        train(small(out, optimizer=rates, identity_steps=3))
    assert not (out / "config.json").exists()
    names = [path.name for path in (out / "states").iterdir()]
    assert names == ["step-00000003"]


def test_rows_are_learned(tmp_path: Path) -> None:
    rates = {"rate": 0.001, "identity_rate": 0.003, "warm_up": 2, "clip": 1.0}
    out = tmp_path / "learned"
    train(small(out, steps=40, identity_steps=40, optimizer=rates))
    found = [said["identity"] for said in losses(out)]
    assert sum(found[-5:]) < 0.7 * sum(found[:5])


@pytest.mark.parametrize(
    ("said", "flags", "wanted"),
    [
        ({}, {}, "holds a training; go on with it by --resume, or begin anew by --overwrite"),
        ({"seed": 7, "texts": 6}, {"resume": True}, "begun with another texts and seed"),
        ({"steps": 4}, {"resume": True}, "has taken 8 steps, and 4 are asked for"),
    ],
)
def test_an_earlier_training_is_not_lost(
    whole: Path, said: dict[str, Any], flags: dict[str, Any], wanted: str
) -> None:
    before = losses(whole)
    with pytest.raises((OutputError, TrainingError), match=wanted):
        train(small(whole, **said), **flags)
    assert losses(whole) == before


def test_a_folder_that_is_no_training_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="holds something that is no training"):
        train(small(tmp_path), overwrite=True)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
