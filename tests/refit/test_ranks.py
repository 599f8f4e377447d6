"""Two processes come to the rows that one comes to."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tokswap.pipeline import transplant
from tokswap.recipe import make_recipe

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.mark.slow
def test_two_processes_find_what_one_does(text: Path, tmp_path: Path) -> None:
    said = {"text": str(text), "tokens": 4_000, "window": 64, "steps": 4, "strength": 30}
    names = {"base_model": "tiny-mistral", "donor": "tiny-llama", "method": "pieces"}
    asked = {**names, "refit": said, "eval": False, "verify": False, "device": "cpu"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(asked))
    port = ["--master-port", str(free_port())]
    ran = subprocess.run(
        [*LAUNCH, *port, "-m", "tokswap", "run", str(recipe), "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.count("refit to")) == (0, 1), ran.stderr
    one = transplant(make_recipe(asked | {"out": str(tmp_path / "one")}))
    assert one.record["refit"]["match"]["steps"] == 4
    tables = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in tables[0].items():
        assert torch.allclose(tensor, tables[1][name], atol=1e-4), name
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "recipe.yaml"}
