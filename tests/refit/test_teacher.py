"""Lessons: what the base reads at a place is what the new model has read there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.refit.made import Bench
from tokswap.evaluation.reading import spelt_reading
from tokswap.evaluation.tokens import lengths_of, start_of
from tokswap.refit.context import Context
from tokswap.refit.teacher import Lesson, body_states, lesson_mask, lessons, padded, taught


@pytest.fixture(scope="module", params=["untied", "tied"])
def context(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, text: Path
) -> Context:
    bench: Bench = request.getfixturevalue(request.param)
    return bench.context(tmp_path_factory.mktemp("states"), text=[str(text)])


def taken(context: Context, limit: int | None, free: set[int] | None = None) -> list[Lesson]:
    """The lessons of the text to fit, for a base of so many positions."""
    vocabulary, known = context.swapped.vocabulary, context.pair.base.vocabulary
    reading = spelt_reading(context.pair.alignment, lengths_of(vocabulary), None)
    learnt = set(context.free.tolist()) if free is None else free
    starts = start_of(vocabulary), start_of(known)
    kept = {"starts": starts, "free": learnt.__contains__, "limit": limit}
    return lessons(context.cut.fit, reading, **kept)  # type: ignore[arg-type]


def test_both_have_read_the_same_at_every_place(context: Context) -> None:
    new, old = context.swapped.vocabulary, context.pair.base.vocabulary
    free = set(context.free.tolist())
    for one in context.lessons[0] + context.lessons[1]:
        assert len(one.ends) == len(one.read)
        assert one.ends[-1] == len(one.spelt) - 1
        assert one.read[one.first] in free
        assert not free & set(one.read[: one.first])
        skip = one.read[0] == start_of(new)
        assert not skip or one.spelt[0] == start_of(old)
        spelt = [old.spelling[token] or b"" for token in one.spelt]
        read = [new.spelling[token] or b"" for token in one.read]
        for place, end in enumerate(one.ends):
            assert b"".join(spelt[skip : end + 1]) == b"".join(read[skip : place + 1])


def test_a_window_of_shared_tokens_is_no_lesson(context: Context) -> None:
    assert len(context.lessons[0]) > 20
    assert taken(context, None) == context.lessons[0]
    assert taken(context, None, set()) == []
    rare = context.cut.fit[3].inputs[-1]
    with_it = [window for window in context.cut.fit if rare in window.inputs]
    assert len(taken(context, None, {rare})) == len(with_it)


def test_what_lies_behind_the_bases_positions_is_left_out(context: Context) -> None:
    whole = {tuple(one.read): one for one in taken(context, None)}
    limited = taken(context, 40)
    assert 0 < len(limited) < len(whole)
    for one in limited:
        full = next(f for read, f in whole.items() if list(read[: len(one.read)]) == one.read)
        assert one.first < len(one.read) == len(one.ends)
        assert len(one.spelt) <= 40
        assert one.spelt == full.spelt[: len(one.spelt)]
        assert one.ends == full.ends[: len(one.ends)]
        assert len(one.read) == len(full.read) or full.ends[len(one.ends)] >= 40


@torch.no_grad()
def test_states_are_those_that_the_head_reads(context: Context) -> None:
    base: Any = context.swapped.base
    inputs = torch.arange(60).reshape(3, 20) + 9
    wanted = base(input_ids=inputs, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(body_states(base, inputs, "m"), wanted)
    assert torch.equal(base(input_ids=inputs).logits, base.lm_head(wanted))  # no hook is left


@torch.no_grad()
def test_padding_and_order_change_nothing(context: Context) -> None:
    batch = [replace(one) for one in taken(context, 40)[:3]] + context.lessons[0][:2]
    base = context.swapped.base
    found = taught(base, batch, "m", torch.device("cpu"))
    single = [taught(base, [one], "m", torch.device("cpu")) for one in batch]
    assert torch.allclose(found, torch.cat(single), atol=1e-5)
    assert [len(one.read) - one.first for one in batch] == list(map(len, single))
    mask = lesson_mask(batch)
    assert mask.shape == padded([one.read for one in batch]).shape
    assert mask.sum(1).tolist() == list(map(len, single))
