"""States of a training that are kept: each a hypernetwork in the published layout, and the rest."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokswap.errors import TrainingError
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.stored import WEIGHTS, fill, save
from tokswap.hypernet.training.processes import whole

STATES = "states"
NUMBERS = "optimizer.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class State:
    """A kept state.

    Attributes:
        folder: Where it lies.
        step: Steps that were taken.
        recipe: What decides the training.
        texts: Where the texts stand.
    """

    folder: Path
    step: int
    recipe: Mapping[str, Any]
    texts: list[Any]


def plain(network: Hypernet) -> Hypernet:
    """Copy a network to the CPU, whole; all processes that share it must ask."""
    state = {name: whole(t).detach().cpu().clone() for name, t in network.state_dict().items()}
    with torch.device("meta"):
        copy = Hypernet(network.config)
    copy.load_state_dict(state, assign=True)
    return copy


def keep(
    out: Path,
    step: int,
    network: Hypernet,
    numbers: Mapping[str, Tensor],
    *,
    layout: Mapping[str, Any],
    recipe: Mapping[str, Any],
    texts: list[Any],
    most: int,
) -> Path:
    """Keep a state; it appears whole or not at all, and older ones go.

    Args:
        out: The training's folder.
        step: Steps that were taken.
        network: The network, whole and on the CPU.
        numbers: What the optimizer remembers.
        layout: What :func:`~tokswap.hypernet.stored.save` is told beside the network.
        recipe: What decides the training.
        texts: Where the texts stand.
        most: How many states stay.

    Raises:
        TrainingError: If it cannot be written; those that were kept before are there still.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    states = out / STATES
    folder, stage = states / f"step-{step:08d}", states / f".step-{step:08d}.partial"
    try:
        for left in states.glob(".step-*.partial"):  # by a kill
            shutil.rmtree(left)
        stage.mkdir(parents=True)
        save(stage, network, **layout)
        save_file(dict(numbers), stage / NUMBERS)
        said = {"step": step, "recipe": recipe, "texts": texts}
        (stage / STATE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        _to_disk(stage)
        shutil.rmtree(folder, ignore_errors=True)
        stage.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(stage, ignore_errors=True)
        raise TrainingError(
            f"the state behind step {step:,} cannot be kept in {states} ({error}); make room, and "
            "--resume from the one before"
        ) from error
    for old in sorted(states.glob("step-*"))[:-most]:
        shutil.rmtree(old)
    return folder


def last_state(out: Path) -> State | None:
    """Find the last state that was kept, if there is one.

    Raises:
        TrainingError: If it cannot be read.
    """
    folders = sorted((out / STATES).glob("step-*"))
    if not folders:
        return None
    path = folders[-1] / STATE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return State(folders[-1], int(said["step"]), said["recipe"], list(said["texts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}); remove {folders[-1]} to go on from the state before"
        ) from error


def restore(state: State, network: Hypernet) -> dict[str, Tensor]:
    """Give a network the weights of a state.

    Returns:
        What the optimizer remembers.

    Raises:
        TrainingError: If a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        fill(network, load_file(state.folder / WEIGHTS), str(state.folder))
        return load_file(state.folder / NUMBERS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{state.folder} is damaged ({error}); remove it to go on from the state before"
        ) from error


def _to_disk(folder: Path) -> None:
    """See to it that what was written survives a crash of the machine."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
