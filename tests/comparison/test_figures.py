"""What is kept of a run, and what several seeds come to."""

import math
import statistics
from typing import Any

import pytest

from tokswap.comparison.figures import by_frequency, sum_up


def test_tokens_are_binned_by_powers_of_two() -> None:
    counts = [0, 1, 1, 2, 3, 4, 7, 8, 1000]
    nats = [0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 14.0, 8.0, 500.0]
    lengths = [9, 1, 3, 2, 2, 1, 1, 0, 5]
    bins = by_frequency(counts, nats, lengths)
    assert [(b["from"], b["to"]) for b in bins] == [(1, 1), (2, 3), (4, 7), (8, 15), (512, 1023)]
    assert [b["different"] for b in bins] == [2, 2, 2, 1, 1]
    assert [b["tokens"] for b in bins] == [2, 5, 11, 8, 1000]
    assert [b["bytes"] for b in bins] == [4, 10, 11, 0, 5000]
    bits = [b["bits_per_byte"] for b in bins]
    assert bits[3] is None
    assert bits[0] == pytest.approx(3 / 4 / math.log(2))
    total = sum(b * part["bytes"] for b, part in zip(bits, bins, strict=True) if b is not None)
    assert total * math.log(2) == pytest.approx(sum(nats) - 8)
    assert by_frequency([], [], []) == by_frequency([0], [0.0], [3]) == []


def kept(seed: int, bits: float, *, peak: int | None = 5, earlier: bool = True) -> dict[str, Any]:
    group = {"tokens": 7, "bytes": 9, "bits_per_byte": bits / 2, "of_total": bits / 4}
    return {
        "label": "a method",
        "method": "normal",
        "seed": seed,
        "figures": {
            "bits_per_byte": bits,
            "tokens": 70,
            "groups": {"new": group, "shared": {**group, "bits_per_byte": None}},
            "frequency": [{"from": 1, "to": 1, "bits_per_byte": bits}],
        },
        "seconds": float(seed),
        "evaluation_seconds": 2.0,
        "peak_memory": peak,
        "settings": {"method": "normal"},
        "earlier": earlier,
    }


def test_seeds_come_to_a_mean_and_a_spread() -> None:
    runs = [kept(0, 2.0), kept(1, 3.0, peak=9, earlier=False), kept(2, 7.0, peak=None)]
    found = sum_up(runs, draws=True)
    assert found.bits_per_byte == 4.0
    assert found.spread == pytest.approx(statistics.stdev([2, 3, 7]))
    assert (found.group("new"), found.group("shared"), found.group("old")) == (2.0, None, None)
    assert found.figures["groups"]["new"] == {
        "tokens": 7,
        "bytes": 9,
        "bits_per_byte": 2.0,
        "of_total": 1.0,
    }
    assert found.figures["frequency"] == [{"from": 1, "to": 1, "bits_per_byte": 4.0}]
    assert (found.seconds, found.peak_memory, found.earlier) == (1.0, 9, False)
    said = found.to_dict({"bits_per_byte": 3.5})
    assert said["over_floor"] == 0.5
    assert [part["seed"] for part in said["seeds"]] == [0, 1, 2]


def test_one_seed_has_no_spread() -> None:
    found = sum_up([kept(3, 2.0)], draws=True)
    assert (found.spread, found.seeds) == (None, (3,))
    assert "spread" not in found.to_dict({"bits_per_byte": 1.0})
    assert sum_up([kept(3, 2.0)], draws=False).seeds == ()
