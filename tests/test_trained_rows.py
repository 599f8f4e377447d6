"""Which rows of a transplanted base count as trained further, by their bits."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import CheckpointError
from tokswap.pipeline import transplant
from tokswap.recipe import make_recipe
from tokswap.trained_rows import TrainedTable, find_trained
from tokswap.transplanted import Transplanted, open_transplanted
from tokswap.vocabulary.align import Kind

NAME = "model.embed_tokens.weight"
OURS, THEIRS = (VocabTensor(NAME, "input", 0, rows) for rows in (4096, 6144))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Transplanted:
    out = tmp_path_factory.mktemp("made") / "out"
    pair = {"base_model": "tiny-llama", "donor": "tiny-mistral", "method": "pieces"}
    transplant(**pair, out=str(out), eval=False, verify=False)
    return open_transplanted(make_recipe({"base_model": "tiny-llama", "like": str(out)}))


def look(made: Transplanted, folder: Path, table: torch.Tensor) -> TrainedTable:
    """Look at the transplanted base with another table."""
    shutil.copytree(made.like.location.target, folder)
    save_file(load_file(folder / "model.safetensors") | {NAME: table}, folder / "model.safetensors")
    return find_trained(replace(made, like=Checkpoint.open(str(folder))), OURS, THEIRS)


def first(made: Transplanted, kind: Kind) -> int:
    summed = made.plan.copied() < 0 if kind == Kind.MISSING else made.plan.copied() >= 0
    return int(np.flatnonzero((made.plan.kind == kind) & summed)[0])


def table_of(made: Transplanted) -> torch.Tensor:
    return made.like.load(NAME).clone()


def test_no_row_is_where_nobody_trained(made: Transplanted) -> None:
    found = find_trained(made, OURS, THEIRS)
    assert (found.count, found.relative) == (0, 0.0)


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
def test_a_wider_type_holds_the_same_rows(made: Transplanted, tmp_path: Path, kind: str) -> None:
    table = table_of(made).to(getattr(torch, kind))
    assert look(made, tmp_path / "like", table).count == 0


def test_rows_that_were_written_in_a_wider_type_are_the_plans(
    made: Transplanted, tmp_path: Path
) -> None:
    """As a transplant with `dtype: float32` writes them: sums that were never rounded."""
    table = made.plan.apply(made.original.load(NAME).float())
    assert not torch.equal(table, table_of(made).float())
    assert look(made, tmp_path / "like", table).count == 0
    table[(row := first(made, Kind.SHARED))] *= 2  # training one leaves the others the plan's
    found = look(made, tmp_path / "trained", table)
    assert found.moved.nonzero()[:, 0].tolist() == [row]


def test_another_machines_rounding_is_no_training(made: Transplanted, tmp_path: Path) -> None:
    """Sums in another order differ by one rounding, in rows that are sums; copies never do."""
    for kind, steps, count in (
        (Kind.MISSING, 1, 0),
        (Kind.MISSING, 9, 1),
        (Kind.SHARED, 1, 1),
    ):
        table, row = table_of(made), first(made, kind)
        for _ in range(steps):
            table[row, 3] = torch.nextafter(table[row, 3], torch.tensor(9.0).bfloat16())
        found = look(made, tmp_path / f"{kind.name}-{steps}", table)
        assert found.count == count
        assert found.moved.nonzero()[:, 0].tolist() == [row] * count


def test_the_difference_is_measured_in_the_rows_that_moved(
    made: Transplanted, tmp_path: Path
) -> None:
    table = table_of(made)
    table[7:9] *= 2
    found = look(made, tmp_path / "like", table)
    assert found.moved.nonzero()[:, 0].tolist() == [7, 8]
    assert found.relative == pytest.approx(1)


def test_a_table_of_another_shape_is_refused(made: Transplanted, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\(4095, 128\), and the plan makes \(4096, 128\)"):
        look(made, tmp_path / "like", table_of(made)[1:])


def test_rows_without_numbers_are_refused(made: Transplanted, tmp_path: Path) -> None:
    table = table_of(made)
    table[99, 0] = torch.inf
    with pytest.raises(CheckpointError, match="NaN or infinite numbers in 1 of 4096 tokens' rows"):
        look(made, tmp_path / "like", table)
