"""Reading a text once: what is kept of it gives the model's own loss."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.refit.made import Bench
from tokswap.checkpoint.tables import load_table
from tokswap.errors import RefitError
from tokswap.evaluation.windows import Window
from tokswap.ranks import Ranks
from tokswap.refit.context import Context
from tokswap.refit.head import HeadForm
from tokswap.refit.rows import rows_of
from tokswap.refit.states import OTHERS, Reader, affordable, kept_part, read_all
from tokswap.refit.store import StateStore
from tokswap.refit.windows import Block
from tokswap.solvers.softmax_rows import Head, Positions, losses

PLAIN = HeadForm(1.0, None, None)


@pytest.fixture(scope="module")
def context(untied: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return untied.context(tmp_path_factory.mktemp("states"), text=[str(text)])


@pytest.fixture
def reader(untied: Bench, context: Context) -> partial[Reader]:
    """A reader of the method's model; what is left to be said are its part and seed."""
    model = untied.swapped.model(untied.plan)
    return partial(Reader, model, PLAIN, context.place, "m")


def as_positions(block: dict[str, Tensor]) -> Positions:
    return Positions(
        block["states"].float(), block["rest"], block["target"].long(), block["weights"]
    )


@torch.no_grad()
def test_what_is_kept_gives_the_models_own_loss(
    untied: Bench, context: Context, reader: partial[Reader]
) -> None:
    windows = [context.cut.fit[number] for number in (0, 5, 6)]
    windows[1] = Window(windows[1].inputs, windows[1].targets[-10:])  # of another shape
    part = as_positions(reader().read(0, windows))
    table = load_table(context.pair.base, context.pair.layout.output).float()
    rows = rows_of(untied.plan.roles["output"], context.free, table)
    logits = Head().logits(part.states, rows)
    whole = torch.logaddexp(part.rest, logits.logsumexp(1))
    lost = losses(part, rows, Head())
    model: Any = reader().model
    own, free = [], []
    for number in (0, 2, 1):  # those of one shape stand together
        found = model(input_ids=torch.tensor([windows[number].inputs])).logits[0].double()
        asked = torch.tensor(windows[number].targets)
        found = found[-len(asked) :]
        own.append(-found.log_softmax(1).gather(1, asked[:, None])[:, 0])
        place = context.place[asked]
        free.append(place)
        rest = found.logsumexp(1)
        at = sum(map(len, own[:-1]))
        assert torch.allclose(whole[at : at + len(asked)].double(), rest, atol=1e-3)
    assert torch.equal(part.target, torch.cat(free))
    assert bool((part.weights == 1).all())
    there = part.target >= 0
    assert int(there.sum()) > 10
    # States are kept in half precision.
    assert torch.allclose(lost[there].double(), torch.cat(own)[there], atol=0.02)
    assert logits.shape == (len(part.states), len(context.free))


def test_states_that_are_not_finite_are_told_with_figures(
    untied: Bench, context: Context, reader: partial[Reader]
) -> None:
    windows = context.cut.fit[1:3]
    norm: Any = reader().model.model.norm
    before = norm.weight.detach().clone()
    try:
        norm.weight.data[3] = torch.nan
        with pytest.raises(RefitError, match=r"^m gives .* at 128 of 128 tokens in float32; check"):
            reader().read(0, windows)
    finally:
        norm.weight.data.copy_(before)


def test_a_part_keeps_every_free_target_and_stands_for_all(
    context: Context, reader: partial[Reader]
) -> None:
    windows = context.cut.fit[:8]
    whole = as_positions(reader().read(3, windows))
    free = int((whole.target >= 0).sum())
    sums, sizes = [], []
    for seed in range(6):
        found = as_positions(reader(0.25, seed).read(3, windows))
        there = found.target >= 0
        assert torch.equal(found.target[there], whole.target[whole.target >= 0])
        assert bool((found.weights[there] == 1).all())
        assert bool((found.weights[~there] == 4).all())
        sums.append(float(found.weights.sum()))
        sizes.append(len(found.states))
    assert len(set(sizes)) > 1  # drawn anew for each seed
    others = len(whole.states) - free
    # Four standard errors of what is drawn.
    error = 4 * (others * 0.25 * 0.75) ** 0.5 / len(sums) ** 0.5
    assert abs(np.mean(sums) - len(whole.states)) < 4 * error
    again = reader(0.25, 5).read(3, windows, weight=3.0)
    assert torch.equal(again["states"].float(), found.states)
    assert torch.equal(again["weights"], 3 * found.weights)


def test_the_part_is_as_large_as_the_work_allows() -> None:
    assert kept_part(1_000, 100, 50) == 1.0
    # 10 rows at 10,000 products are 1,000 positions: 100 free ones, and 900 of 9,900 others.
    assert kept_part(10_000, 100, 10, work=10_000) == pytest.approx(900 / 9_900)
    assert kept_part(10_000, 1_000, 10, work=10_000) == pytest.approx(OTHERS * 1_000 / 9_000)
    assert kept_part(100, 100, 10) == 1.0


def test_where_all_rows_are_too_many_the_frequent_ones_are_fitted() -> None:
    counts = np.array([3, 0, 50, 7, 1, 7, 0, 200, 2])
    assert affordable(counts).tolist() == (counts > 0).tolist()
    for work in (0, 249, 250, 700, 1_000, 1_500, 2_500):
        found = affordable(counts, work)
        fitted = int(found.sum())
        assert not found[counts == 0].any()
        assert fitted * counts[found].sum() * (1 + OTHERS) <= work
        rest = counts[~found & (counts > 0)]
        if len(rest):
            assert not found.any() or counts[found].min() >= rest.max()
            one_more = counts[found].sum() + rest.max()
            assert (fitted + 1) * one_more * (1 + OTHERS) > work
    assert affordable(np.array([4, 4, 4]), 20).tolist() == [True, True, False]


def test_only_what_is_not_there_yet_is_read(
    context: Context, reader: partial[Reader], tmp_path: Path
) -> None:
    blocks = [Block(context.cut.fit[at : at + 2], 1.0 + at) for at in range(0, 6, 2)]
    store = StateStore(tmp_path, "k" * 16, 3, memory=0)
    kept = reader().read(1, *blocks[1])
    kept["rest"] += 7
    store.put(1, kept)
    read_all(reader(), blocks, store, Ranks(), "read")
    assert store.left() == []
    assert torch.equal(store.get(1)["rest"], kept["rest"])
    for number in (0, 2):
        wanted = reader().read(number, *blocks[number])
        assert wanted["weights"].unique().tolist() == [1.0 + 2 * number]
        assert all(torch.equal(store.get(number)[name], wanted[name]) for name in wanted)
