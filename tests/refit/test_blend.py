"""The share of the last piece: what reading alone says of it."""

from pathlib import Path

import pytest
import torch

from tests.refit.made import Bench, bench
from tokswap.checkpoint.tables import load_table
from tokswap.refit.blend import SHARES, find_blend, kind_name
from tokswap.refit.context import Context
from tokswap.refit.matching import Matcher
from tokswap.refit.rows import blended, rows_of
from tokswap.refit.steps import blend


@pytest.fixture(scope="module")
def context(untied: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return untied.context(tmp_path_factory.mktemp("states"), text=[str(text)])


def test_states_come_no_farther_from_the_pieces(untied: Bench, context: Context) -> None:
    plan, about = blend(context, untied.plan)
    assert set(about["shares"].values()) <= set(SHARES)
    assert any(about["shares"].values())  # the mean of the pieces is not the best of them
    assert 0 < about["after"] < about["before"]
    # What is told of the windows that were tried holds of the plan on all of them, about.
    table = load_table(context.pair.base, context.pair.layout.input).float()
    base, distances = untied.swapped.base, []
    for one in (untied.plan, plan):
        matcher = Matcher(untied.swapped.model(one), base, context.place, "m", context.ranks)
        rows = rows_of(one.roles["input"], context.free, table)
        distances.append(matcher.distance(context.lessons[0], rows))
    assert distances[1] < distances[0]
    assert distances == pytest.approx([about["before"], about["after"]], rel=0.15)


def test_shared_rows_and_the_head_stay_bit_for_bit(untied: Bench, context: Context) -> None:
    plan, about = blend(context, untied.plan)
    table = load_table(context.pair.base, context.pair.layout.input).float()
    before, after = untied.plan.apply(table), plan.apply(table)
    missing = torch.zeros(plan.rows, dtype=torch.bool)
    missing[torch.from_numpy(context.pair.alignment.missing)] = True
    assert torch.equal(after[~missing], before[~missing])
    assert bool((after[missing] != before[missing]).any())
    assert torch.equal(plan.apply(table, "output"), untied.plan.apply(table, "output"))
    spelling = context.pair.donor.vocabulary.spelling
    none = [
        number
        for number in context.pair.alignment.missing.tolist()
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
    table = load_table(last.pair.base, last.pair.layout.input).float()
    assert torch.equal(plan.apply(table), last.plan.apply(table))


def test_without_lessons_nothing_is_found(untied: Bench, context: Context) -> None:
    def never(share: float) -> torch.nn.Module:
        raise AssertionError(share)

    base, device = untied.swapped.base, torch.device("cpu")
    assert find_blend([], base, never, lambda _token: None, "m", device) is None


def test_each_share_is_tried_on_every_window(untied: Bench, context: Context) -> None:
    tried = []

    def model_of(share: float) -> torch.nn.Module:
        tried.append(share)
        everywhere = dict.fromkeys(context.pair.alignment.missing.tolist(), share)
        return untied.swapped.model(blended(untied.plan, context.pair.alignment, everywhere))

    found = find_blend(
        context.lessons[0][:2],
        untied.swapped.base,
        model_of,
        lambda token: "rare" if int(context.place[token]) >= 0 else None,
        "m",
        torch.device("cpu"),
    )
    assert tried == list(SHARES)
    assert found is not None
    assert found.shares == {"rare": found.shares[""], "": found.shares[""]}
