"""The whole refit: what must stay stays bit for bit, and held-out text is not the worse for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.refit.made import Bench
from tokswap.checkpoint.tables import load_table
from tokswap.errors import RefitError
from tokswap.evaluation.losses import Losses
from tokswap.plan import Plan
from tokswap.refit.asked import RefitPart
from tokswap.refit.context import Context
from tokswap.refit.held_out import Cost, held_out_cost
from tokswap.refit.refit import Refitted, refit

QUICK: dict[str, Any] = {"tokens": 6_000, "window": 64, "written": 0}


def done(bench: Bench, **said: Any) -> Refitted:
    return refit(bench.pair, bench.plan, RefitPart(**QUICK | said), swapped=bench.swapped)


def asked(bench: Bench) -> dict[str, Any]:
    """Of a tied base every candidate is tried whole: one strength is quick."""
    return QUICK | ({"strength": 30.0, "tokens": 4_000} if bench.pair.layout.tied else {})


def table(bench: Bench, plan: Plan, role: Any) -> Tensor:
    layout = bench.pair.layout
    name = layout.input if role == "input" else layout.output
    return plan.apply(load_table(bench.pair.base, name).float(), role)


@pytest.fixture(scope="module", params=["untied", "tied"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def context(bench: Bench, tmp_path_factory: pytest.TempPathFactory, text: Path) -> Context:
    return bench.context(tmp_path_factory.mktemp("states"), text=[str(text)], **asked(bench))


@pytest.fixture(scope="module")
def refitted(bench: Bench, text: Path) -> Refitted:
    return done(bench, text=[str(text)], **asked(bench))


def test_what_the_text_does_not_tell_of_stays_bit_for_bit(
    bench: Bench, context: Context, refitted: Refitted
) -> None:
    free = torch.zeros(bench.pair.alignment.rows, dtype=torch.bool)
    free[context.free] = True
    before, after = (table(bench, plan, "output") for plan in (bench.plan, refitted.plan))
    assert torch.equal(after[~free], before[~free])
    moved = (after[free] != before[free]).any(1)
    assert float(moved.float().mean()) > 0.95
    shared = torch.from_numpy(bench.pair.alignment.source) >= 0
    assert int((shared & ~free).sum()) > 2_000
    before, after = (table(bench, plan, "input") for plan in (bench.plan, refitted.plan))
    assert torch.equal(after[shared], before[shared])


def test_held_out_text_costs_less(bench: Bench, context: Context, refitted: Refitted) -> None:
    before, after = (held_out_cost(context, plan).all for plan in (bench.plan, refitted.plan))
    output = refitted.about["output"]
    assert output["kept"]
    assert after < before
    assert refitted.about["whole"] == {
        "before": pytest.approx(before, abs=1e-4),
        "after": pytest.approx(after, abs=1e-4),
        "kept": True,
    }
    if bench.pair.layout.tied:  # it is tried in the model itself
        assert output["gain"] == pytest.approx(before - after, abs=1e-4)
    else:  # the head alone; the embedding was blended before
        roles = {**refitted.plan.roles, "output": bench.plan.roles["output"]}
        blended = Plan(roles, bench.plan.kind)
        assert output["gain"] == pytest.approx(
            held_out_cost(context, blended).all - after, abs=1e-3
        )


def test_what_is_said_is_what_was_read(
    bench: Bench, context: Context, refitted: Refitted, text: Path
) -> None:
    about = refitted.about
    assert refitted.plan.about == {**bench.plan.about, "refit": about}
    assert about["text"] == [text.name]
    assert about["tokens"] == context.cut.tokens >= asked(bench)["tokens"]
    assert about["more"] is True
    assert about["new"]["seen"] == len(context.free) < about["new"]["missing"]
    assert about["new"]["times"] == context.times
    assert ("blend" in about) is not bench.pair.layout.tied


def test_the_same_again_gives_the_same_bits(bench: Bench, refitted: Refitted, text: Path) -> None:
    again = done(bench, text=[str(text)], **asked(bench))
    assert again.about == refitted.about
    for role in ("input", "output"):
        assert torch.equal(table(bench, again.plan, role), table(bench, refitted.plan, role))


def test_new_tokens_that_the_text_lacks_are_expected_no_more_often(
    bench: Bench, context: Context, refitted: Refitted
) -> None:
    """The partition is exact, so fitted rows take no odds from nowhere."""
    unseen = torch.zeros(bench.pair.alignment.rows, dtype=torch.bool)
    unseen[torch.from_numpy(bench.pair.alignment.missing)] = True
    unseen[context.free] = False
    said = []
    for plan in (bench.plan, refitted.plan):
        model: Any = bench.swapped.model(plan)
        inputs = torch.tensor([w.inputs for w in context.cut.fit if len(w.inputs) == 64][:40])
        with torch.no_grad():
            odds = model(input_ids=inputs, **Losses(model, "m").options(64)).logits.softmax(-1)
        said.append(float(odds[..., unseen].sum(-1).mean()))
    assert said[1] <= said[0] * 1.02


def test_each_part_may_be_left_out(untied: Bench, text: Path) -> None:
    found = done(untied, text=[str(text)], tokens=4_000, output=False)
    assert "output" not in found.about
    assert found.plan.roles["output"] is untied.plan.roles["output"]
    found = done(untied, text=[str(text)], tokens=4_000, blend=False, strength=50.0)
    assert "blend" not in found.about
    assert found.plan.roles["input"] is untied.plan.roles["input"]
    assert [one["strength"] for one in found.about["output"]["tried"]] == [50.0]


def test_matched_rows_are_held_and_the_head_goes_by_them(untied: Bench, text: Path) -> None:
    found = done(untied, text=[str(text)], tokens=4_000, steps=6, blend=False, output=False)
    match = found.about["match"]
    assert match["steps"] == 6
    assert match["kept"]
    assert match["after"] < match["before"]
    assert match["behind"]["after"] < match["behind"]["before"]
    held = found.plan.roles["input"].dense_ids
    assert len(held) == found.about["new"]["seen"]
    assert torch.equal(table(untied, found.plan, "output"), table(untied, untied.plan, "output"))


@pytest.mark.parametrize(("harm", "kept"), [(-0.2, True), (-0.001, False), (0.2, False)])
def test_matched_rows_stay_out_where_what_stands_behind_is_no_cheaper(
    untied: Bench, text: Path, monkeypatch: pytest.MonkeyPatch, harm: float, kept: bool
) -> None:
    """However close the states have come to those of the pieces."""
    read = []

    def behind(*_given: Any) -> tuple[Tensor, list[str]]:
        read.append(len(read))
        noise = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
        return 5 + read[-1] * (harm + noise / 10), ["word"] * 400

    monkeypatch.setattr("tokswap.refit.steps.losses_behind", behind)
    found = done(untied, text=[str(text)], tokens=4_000, steps=3, blend=False, output=False)
    match = found.about["match"]
    assert read == [0, 1]
    assert match["after"] < match["before"]
    assert match["behind"]["after"] - match["behind"]["before"] == pytest.approx(harm, abs=0.02)
    assert match["kept"] is kept
    assert (found.plan.roles["input"] is untied.plan.roles["input"]) is not kept


def test_a_table_that_is_matched_is_better_in_both_roles_or_stays(
    tied: Bench, text: Path, tmp_path: Path
) -> None:
    said = asked(tied) | {"text": [str(text)]}
    alone, both = done(tied, **said), done(tied, **said, steps=6)
    assert list(both.about)[-3:] == ["output", "match", "whole"]
    assert both.about["output"] == alone.about["output"]
    match, whole = both.about["match"], both.about["whole"]
    assert match["after"] < match["before"]
    assert [one["share"] for one in match["tried"]] == [1.0, 0.5, 0.25, 0.125]
    context = tied.context(tmp_path, **said)
    costs = [held_out_cost(context, plan).all for plan in (tied.plan, alone.plan, both.plan)]
    assert whole["before"] == pytest.approx(costs[0], abs=1e-4)
    assert whole["after"] == pytest.approx(costs[2], abs=1e-4)
    assert costs[2] <= costs[1] < costs[0]
    assert match["kept"] is (costs[2] < costs[1])


def test_the_bases_own_text_serves_where_there_is_none(
    untied: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.refit.written.LENGTH", 64)
    found = done(untied, written=4_000, blend=False)
    assert found.about["text"] == ["the base's own text"]
    assert found.about["tokens"] > 2_000
    assert not found.about["more"]


def test_text_without_a_new_token_is_refused(untied: Bench, tmp_path: Path) -> None:
    path = tmp_path / "common.txt"
    path.write_text("the and of the in to " * 1_000)
    with pytest.raises(
        RefitError, match=r"^common\.txt holds 0 of the \d,\d{3} new tokens, 0 times"
    ):
        done(untied, text=[str(path)])


def test_what_makes_held_out_text_dearer_is_not_kept(
    untied: Bench, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps go by distances and by the head alone; in the end the whole model is read."""
    costs = {False: 3.0, True: 3.5}
    monkeypatch.setattr(
        "tokswap.refit.refit.held_out_cost",
        lambda _context, plan: Cost(costs[plan is not untied.plan]),
    )
    found = done(untied, text=[str(text)], written=0, strength=30.0)
    assert found.about["whole"] == {"before": 3.0, "after": 3.5, "kept": False}
    for role in ("input", "output"):
        assert torch.equal(table(untied, found.plan, role), table(untied, untied.plan, role))
