"""What held-out text costs, against the loss that transformers gives, and whose it is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.refit.made import Bench
from tokswap.refit.held_out import Cost, held_out_cost, joined


def test_the_cost_is_the_models_own_loss(
    untied: Bench, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.refit.written.LENGTH", 64)
    context = untied.context(tmp_path, text=[str(text)], written=2_500)
    model: Any = untied.swapped.model(untied.plan)
    sums: list[list[float]] = []
    for window in context.cut.held_out:
        inputs = torch.tensor([window.inputs])
        with torch.no_grad():
            odds = model(input_ids=inputs).logits.log_softmax(-1)[0]
        targets = torch.tensor(window.targets)
        nats = -odds[-len(targets) :].gather(1, targets[:, None])
        sums.append([float(nats.sum()), len(targets)])
    given, own = sums[: -context.cut.own], sums[-context.cut.own :]
    assert given
    assert own

    def mean(parts: list[list[float]]) -> float:
        return sum(nats for nats, _ in parts) / sum(count for _, count in parts)

    found = held_out_cost(context, untied.plan)
    assert found.all == pytest.approx(mean(sums), rel=1e-5)
    assert found.own == pytest.approx(mean(own), rel=1e-5)
    assert found.windows == pytest.approx([nats for nats, _ in own], rel=1e-5)
    assert abs(mean(own) - mean(given)) > 0.01  # so that one cannot stand for the other
    alone = untied.context(tmp_path, text=[str(text)])
    without = held_out_cost(alone, untied.plan)
    assert (without.own, without.windows) == (None, ())


def test_what_is_cheaper_is_kept_where_the_bases_own_text_is_no_dearer() -> None:
    assert Cost(2.0).to(Cost(1.5)) == {"before": 2.0, "after": 1.5, "kept": True}
    assert not Cost(2.0).to(Cost(2.0))["kept"]

    def kept(*apart: float, gain: float = 0.1) -> bool:
        """Windows of ten tokens; what is gained are nats a token of all text."""
        before = Cost(2.0, 2.0, (20.0,) * len(apart))
        own = 2.0 + sum(apart) / 10 / len(apart)
        after = Cost(2.0 - gain, own, tuple(20.0 + nats for nats in apart))
        said = before.to(after)
        assert said["own"] == {"before": 2.0, "after": own}
        return bool(said["kept"])

    assert kept(-1.0, -1.0, -1.0)
    assert not kept(-1.0, -1.0, -1.0, gain=-0.1)
    assert not kept(1.0, 1.1, 0.9)  # 0.1 a token everywhere, as much as is gained
    assert kept(1.0, 1.1, 0.9, gain=1.1)  # a tenth of which is more
    assert kept(3.0, -2.5, 0.5, -0.5)  # 0.5 in all, of which the error is 4.5
    assert not kept(5.0, 4.0, -0.5, 0.5)  # 9.0, of 5.4
    assert not kept(0.5)  # of one window nothing is known but that
    assert kept(0.0, 0.0)


def test_steps_are_joined_from_the_first_to_the_last_that_is_kept() -> None:
    one, two, three = Cost(3.0, 1.0), Cost(2.0, 0.9), Cost(1.5, 0.8)
    assert joined([one.to(two), two.to(three)]) == {"whole": one.to(three)}
    assert joined([one.to(two), two.to(Cost(2.5, 0.8))]) == {"whole": one.to(two)}
    assert joined([two.to(one), two.to(three)]) == {"whole": two.to(three)}
    assert joined([two.to(one), two.to(Cost(9.0, 1.0))]) == {"whole": two.to(one)}
    assert joined([None, Cost(3.0).to(Cost(2.0))]) == {"whole": Cost(3.0).to(Cost(2.0))}
    assert joined([None]) == joined([]) == {}
