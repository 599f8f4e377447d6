"""Transplants between small models, and their tensors: what several files of tests need."""

import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tokswap.carry_out import Transplant
from tokswap.pipeline import transplant


def swap(base: str | Path, donor: str | Path, out: Path, **settings) -> Transplant:
    settings = {"method": "pieces", "eval": False, "verify": False} | settings
    return transplant(base_model=str(base), donor=str(donor), out=str(out), **settings)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def wait_for_plan(process: subprocess.Popen[Any], out: Path) -> None:
    """Wait until a transplant has written its plan; it then verifies for a while."""
    deadline = time.monotonic() + 120
    while not list(out.parent.glob(f".{out.name}.*.partial/tokswap.plan")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
