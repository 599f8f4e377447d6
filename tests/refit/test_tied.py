"""A base with one table: candidates are tried whole, and nothing worse than the method is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.refit.made import Bench
from tokswap.checkpoint.tables import load_table
from tokswap.plan import Plan
from tokswap.refit import tied as module
from tokswap.refit.context import Context
from tokswap.refit.held_out import Cost, held_out_cost
from tokswap.refit.rows import rows_of, with_rows
from tokswap.refit.tied import Part, best_part


@pytest.fixture(scope="module")
def context(tied: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return tied.context(tmp_path_factory.mktemp("states"), text=[str(text)])


@pytest.fixture(scope="module")
def start(tied: Bench, context: Context) -> torch.Tensor:
    table = load_table(context.pair.base, context.pair.layout.input).float()
    return rows_of(tied.plan.roles["input"], context.free, table)


def noise(start: torch.Tensor, size: float) -> Part:
    generator = torch.Generator().manual_seed(0)
    return Part(
        3.0, size, start + size * start.std() * torch.randn(start.shape, generator=generator)
    )


def test_what_is_worse_than_the_method_is_not_kept(
    tied: Bench, context: Context, start: torch.Tensor
) -> None:
    rows, about = best_part(context, tied.plan, tied.plan, [noise(start, 3.0), noise(start, 1.0)])
    losses = held_out_cost(context, tied.plan).all
    assert torch.equal(rows, start)
    assert (about["kept"], about["gain"]) == (False, 0.0)
    assert [one["share"] for one in about["tried"]] == [3.0, 1.0]
    assert all(one["gain"] < 0 for one in about["tried"])
    best = about["tried"][1]["gain"]  # with less noise
    whole = {"before": losses, "after": pytest.approx(losses - best), "kept": False}
    assert about["whole"] == whole


def test_the_best_is_kept_and_its_gain_is_what_the_model_says(
    tied: Bench, context: Context, start: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method's plan here is one that noise has spoilt, and less noise is better."""

    def spoilt(size: float) -> Plan:
        held = with_rows(tied.plan.roles["input"], context.free, noise(start, size).rows, None)
        return replace(tied.plan, roles={"input": held})

    before = spoilt(3.0)
    candidates = [noise(start, 4.0), noise(start, 0.0), noise(start, 1.0)]
    rows, about = best_part(context, before, before, candidates)
    assert rows is candidates[1].rows
    assert (about["kept"], about["share"], about["strength"]) == (True, 0.0, 3.0)
    losses = held_out_cost(context, before).all, held_out_cost(context, tied.plan).all
    assert about["gain"] == pytest.approx(losses[0] - losses[1], rel=1e-6)
    # But not where it makes what the base wrote dearer, which stands for other domains.
    costs = iter([Cost(3.0, 1.0), Cost(2.0, 1.1), Cost(2.5, 0.9), Cost(2.8, 1.0)])
    monkeypatch.setattr(module, "held_out_cost", lambda _context, _plan: next(costs))
    rows, about = best_part(context, before, before, candidates)
    assert rows is candidates[1].rows
    assert about["whole"] == Cost(3.0, 1.0).to(Cost(2.5, 0.9))
    costs = iter([Cost(3.0, 1.0), Cost(2.0, 1.1), Cost(2.5, 1.2)])
    rows, about = best_part(context, before, before, candidates[:2])
    assert not about["kept"]
    assert about["whole"] == Cost(3.0, 1.0).to(Cost(2.0, 1.1))
    monkeypatch.undo()
    # A plan with a better embedding, made on the way, is better than bad rows of the head.
    better = spoilt(1.0)
    rows, about = best_part(context, better, before, [noise(start, 4.0)])
    assert torch.equal(rows, noise(start, 1.0).rows)
    assert about["kept"]
    assert "strength" not in about
