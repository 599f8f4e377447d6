"""The share of the last piece: what reading alone says of it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.refit.made import Bench, bench
from tokswap.checkpoint.tables import load_table
from tokswap.evaluation.windows import Window
from tokswap.plan import Plan
from tokswap.refit.blend import ENOUGH, SHARES, WINDOWS, find_blend, kind_name
from tokswap.refit.context import Context
from tokswap.refit.steps import blend

FREE = {10: "a", 11: "b"}
STAYS = torch.arange(12) < 10


@pytest.fixture(scope="module")
def context(untied: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return untied.context(tmp_path_factory.mktemp("states"), text=[str(text)])


@pytest.fixture(scope="module")
def mean() -> Bench:
    """Rows that know nothing of their tokens."""
    return bench("tiny-mistral", "tiny-llama", "mean")


def nats_behind(bench: Bench, plan: Plan, context: Context) -> float:
    """Nats of shared tokens behind free ones, among the rows of shared tokens alone."""
    missing = torch.from_numpy(context.pair.alignment.missing)
    free, new = set(context.free.tolist()), set(missing.tolist())
    model: Any = bench.swapped.model(plan)
    found = []
    for window in context.cut.fit:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([window.inputs])).logits[0]
        logits[:, missing] = -torch.inf
        odds = logits.log_softmax(1)
        for at, target in enumerate(window.targets):
            if target not in new and free & set(window.inputs[: at + 1]):
                found.append(-float(odds[at, target]))
    return sum(found) / len(found)


def test_what_stands_behind_costs_less(mean: Bench, context: Context) -> None:
    plan, about = blend(context, mean.plan)
    assert set(about["shares"].values()) <= set(SHARES)
    assert about["after"] < about["before"] - 0.05
    assert len(context.cut.fit) <= WINDOWS  # all of them are tried
    assert nats_behind(mean, mean.plan, context) == pytest.approx(about["before"], rel=1e-5)
    # Each share was tried for all kinds at once, and one tells a little of what another costs.
    assert nats_behind(mean, plan, context) == pytest.approx(about["after"], rel=5e-3)


def test_shared_rows_and_the_head_stay_bit_for_bit(mean: Bench, context: Context) -> None:
    plan, about = blend(context, mean.plan)
    table = load_table(context.pair.base, context.pair.layout.input).float()
    before, after = mean.plan.apply(table), plan.apply(table)
    missing = torch.zeros(plan.rows, dtype=torch.bool)
    missing[torch.from_numpy(context.pair.alignment.missing)] = True
    assert torch.equal(after[~missing], before[~missing])
    assert bool((after[context.free] != before[context.free]).any())
    missing[context.free] = False  # of which the text does not tell
    assert torch.equal(after[missing], before[missing])
    assert torch.equal(plan.apply(table, "output"), mean.plan.apply(table, "output"))
    spelling = context.pair.donor.vocabulary.spelling
    none = [
        number
        for number in context.free.tolist()
        if about["shares"].get(kind_name(spelling[number])) == 0
    ]
    assert torch.equal(after[none], before[none])


def test_where_rows_are_the_last_piece_already_the_method_is_left(
    context: Context, text: Path, tmp_path: Path
) -> None:
    last = bench("tiny-mistral", "tiny-llama", parameters={"strategy": "last"})
    plan, about = blend(last.context(tmp_path, text=[str(text)]), last.plan)
    assert set(about["shares"].values()) == {0.0}
    assert about["after"] == about["before"]
    table = load_table(context.pair.base, context.pair.layout.input).float()
    assert torch.equal(plan.apply(table), last.plan.apply(table))


class Planted(nn.Module):
    """Expects the token 0 the more, the closer the share is to what is best for a kind."""

    def __init__(self, share: float, best: dict[str, float], noise: float) -> None:
        super().__init__()
        self.rows = nn.Embedding(12, 2)
        self.off = {kind: 4 * (share - wanted) ** 2 for kind, wanted in best.items()}
        self.noise, self.seed = noise, int(share * 4)
        self.read = 0

    def get_input_embeddings(self) -> nn.Embedding:
        return self.rows

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        self.read += len(input_ids)
        drawn = torch.Generator().manual_seed(self.seed)
        logits = torch.zeros(*input_ids.shape, 12)
        for row, ids in enumerate(input_ids.tolist()):
            last = None
            for at, token in enumerate(ids):
                last = FREE.get(token, last)
                logits[row, at, 0] = 3 - self.off.get(last or "", 0)
        logits[..., 0] += self.noise * torch.randn(logits.shape[:2], generator=drawn)
        logits[..., 10:] = 50.0  # of rows that do not stay: it must not matter
        return SimpleNamespace(logits=logits)


def windows(free: Sequence[int], count: int = WINDOWS, size: int = 32) -> list[Window]:
    """Zeros, and one of these tokens in every tenth place."""
    ids = [0] * (count * size + 1)
    for number, at in enumerate(range(3, len(ids), 10)):
        ids[at] = free[number % len(free)]
    starts = range(0, count * size, size)
    return [Window(ids[at : at + size], ids[at + 1 : at + size + 1]) for at in starts]


def found(
    some: list[Window], best: dict[str, float], noise: float = 0.0
) -> tuple[dict[str, float], list[Planted]]:
    models: list[Planted] = []

    def model_of(share: float) -> nn.Module:
        models.append(Planted(share, best, noise))
        return models[-1]

    blend = find_blend(some, model_of, FREE.get, STAYS, "m")
    assert blend is not None
    assert blend.after <= blend.before
    return dict(blend.shares), models


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("best", [{"a": 0.75, "b": 0.25}, {"a": 0.0, "b": 1.0}])
def test_each_kind_has_the_share_that_is_best_for_it(best: dict[str, float], noise: float) -> None:
    shares, models = found(windows([10, 11]), best, noise)
    assert {kind: shares[kind] for kind in best} == best
    assert [model.read for model in models] == [WINDOWS] * len(SHARES)


def test_where_shares_differ_by_chance_alone_the_method_is_left() -> None:
    kept = [found(windows([10]), {}, noise=0.3 + seed / 100)[0]["a"] for seed in range(8)]
    assert kept.count(0.0) >= 6


def test_what_is_seldom_seen_goes_by_all_kinds_together() -> None:
    best = {"a": 0.75, "b": 0.25}
    seldom = windows([10], WINDOWS - 1) + windows([11], 1)
    assert sum(token == 11 for window in seldom for token in window.inputs) * 10 < ENOUGH
    shares, _ = found(seldom, best)
    assert shares == {"": 0.75, "a": 0.75, "b": 0.75}


def test_of_many_windows_some_are_read() -> None:
    _, models = found(windows([10], 5 * WINDOWS), {})
    assert [model.read for model in models] == [WINDOWS] * len(SHARES)


def test_without_a_free_token_nothing_is_found() -> None:
    def never(share: float) -> nn.Module:
        raise AssertionError(share)

    assert find_blend([], never, FREE.get, STAYS, "m") is None
    assert find_blend([Window([0, 1], [1, 2])], never, FREE.get, STAYS, "m") is None
    last = [Window([0, 0, 10], [0, 10, 11])]  # with a token behind it that does not stay

    def planted(share: float) -> nn.Module:
        return Planted(share, {}, 0.0)

    assert find_blend(last, planted, FREE.get, STAYS, "m") is None
