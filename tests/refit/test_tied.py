"""A base with one table: candidates are tried whole, and nothing worse than the method is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.refit.made import Bench
from tokswap.checkpoint.tables import load_table
from tokswap.refit import tied as module
from tokswap.refit.context import Context
from tokswap.refit.held_out import Cost, held_out_cost
from tokswap.refit.rows import rows_of, with_rows
from tokswap.refit.tied import Part, best_part, parts


@pytest.fixture(scope="module")
def context(tied: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return tied.context(tmp_path_factory.mktemp("states"), text=[str(text)])


@pytest.fixture(scope="module")
def start(tied: Bench, context: Context) -> torch.Tensor:
    table = load_table(context.pair.base, context.pair.layout.input).float()
    return rows_of(tied.plan.roles["input"], context.free, table)


def noise(start: torch.Tensor, size: float) -> Part:
    generator = torch.Generator().manual_seed(0)
    found = start + start.std() * torch.randn(start.shape, generator=generator)
    (part,) = parts(start, found, (size,), strength=3.0)
    return part


def test_parts_go_so_far_to_what_was_found(start: torch.Tensor) -> None:
    whole, half = parts(start, start + 2.0, (1.0, 0.5))
    torch.testing.assert_close(whole.rows, start + 2)
    torch.testing.assert_close(half.rows, start + 1)
    assert (whole.said(), half.said()) == ({"share": 1.0}, {"share": 0.5})
    assert noise(start, 0.25).said() == {"strength": 3.0, "share": 0.25}


def test_what_is_worse_than_the_method_is_not_kept(
    tied: Bench, context: Context, start: torch.Tensor
) -> None:
    best, about = best_part(context, tied.plan, [noise(start, 3.0), noise(start, 1.0)])
    losses = held_out_cost(context, tied.plan).all
    assert best is None
    assert (about["kept"], about["gain"]) == (False, 0.0)
    assert [one["share"] for one in about["tried"]] == [3.0, 1.0]
    assert all(one["gain"] < 0 for one in about["tried"])
    gain = about["tried"][1]["gain"]  # with less noise
    whole = {"before": losses, "after": pytest.approx(losses - gain), "kept": False}
    assert about["whole"] == whole


def test_the_best_is_kept_and_its_gain_is_what_the_model_says(
    tied: Bench, context: Context, start: torch.Tensor
) -> None:
    """The plan here is one that noise has spoilt, and less noise is better."""
    rows = with_rows(tied.plan.roles["input"], context.free, noise(start, 3.0).rows, None)
    spoilt = replace(tied.plan, roles={"input": rows})
    candidates = [noise(start, 4.0), noise(start, 0.0), noise(start, 1.0)]
    best, about = best_part(context, spoilt, candidates)
    assert best is candidates[1]
    assert (about["kept"], about["share"], about["strength"]) == (True, 0.0, 3.0)
    losses = held_out_cost(context, spoilt).all, held_out_cost(context, tied.plan).all
    assert about["gain"] == pytest.approx(losses[0] - losses[1], rel=1e-6)


def test_what_makes_the_bases_own_text_dearer_is_not_kept(
    tied: Bench, context: Context, start: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands for other domains."""
    candidates = [noise(start, size) for size in (4.0, 0.0, 1.0)]

    def tried(before: Cost, *after: Cost) -> tuple[Part | None, dict[str, Any]]:
        costs = iter([before, *after])
        monkeypatch.setattr(module, "held_out_cost", lambda _context, _plan: next(costs))
        return best_part(context, tied.plan, candidates[: len(after)])

    was, dearer, cheaper = (Cost(nats, nats, (nats, nats)) for nats in (3.0, 3.1, 2.9))
    best, about = tried(was, replace(dearer, all=2.0), replace(cheaper, all=2.5), was)
    assert best is candidates[1]
    assert about["whole"] == was.to(replace(cheaper, all=2.5))
    best, about = tried(was, replace(dearer, all=2.0), replace(dearer, all=2.5))
    assert best is None
    assert about["whole"] == was.to(replace(dearer, all=2.0))
