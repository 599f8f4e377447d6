"""Input rows that learn to lead to the base's states, on problems whose answer is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import Family
from tests.refit.made import Bench, prose
from tokswap.errors import RefitError
from tokswap.ranks import Ranks
from tokswap.refit.matching import BATCH, EPOCHS, Matched, Matcher, scale_of
from tokswap.refit.teacher import Lesson

FREE, LENGTH, COUNT = 40, 24, 24


class Planted:
    """A base whose most frequent rows are called free: the right rows are its own."""

    def __init__(self, bench: Bench) -> None:
        ids = bench.pair.base.vocabulary.backend.encode(prose(6_000), add_special_tokens=False).ids
        windows = [ids[at : at + LENGTH] for at in range(0, COUNT * LENGTH, LENGTH)]
        counts = torch.tensor(ids[: COUNT * LENGTH]).bincount(minlength=4200)
        self.free = counts.argsort(descending=True)[: FREE - 1].sort().values
        unseen = int((counts[1000:] == 0).nonzero()[0]) + 1000
        self.free = torch.cat([self.free, torch.tensor([unseen])])  # the last never occurs
        base: Any = bench.swapped.base
        self.base = base
        self.rows = base.get_input_embeddings().weight.detach()[self.free].clone()
        place = torch.full((len(base.get_input_embeddings().weight),), -1)
        place[self.free] = torch.arange(FREE)
        self.size = float(base.get_input_embeddings().weight.detach().square().mean().sqrt())
        self.matcher = Matcher(base, base, place, "m", Ranks())
        learnt = set(self.free.tolist())
        firsts = [next((at for at, t in enumerate(w) if t in learnt), None) for w in windows]
        lessons = [
            Lesson(window, window, list(range(LENGTH)), first)
            for window, first in zip(windows, firsts, strict=True)
            if first is not None
        ]
        self.lessons = lessons[4:], lessons[:4]

    def noise(self) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.randn(self.rows.shape, generator=generator) * self.size

    def learn(self, start: Tensor, **said: Any) -> Matched:
        asked = {"minutes": 0.0, "steps": 60, "seed": 0, "size": self.size, **said}
        return self.matcher.learn(asked.pop("lessons", self.lessons), start, **asked)


@pytest.fixture(scope="module")
def planted(untied: Bench) -> Planted:
    return Planted(untied)


@pytest.fixture(scope="module")
def learnt(planted: Planted) -> Matched:
    return planted.learn(planted.noise())


def test_right_rows_are_at_no_distance(planted: Planted) -> None:
    assert planted.matcher.distance(planted.lessons[1], planted.rows) < 1e-9
    assert planted.matcher.distance(planted.lessons[1], planted.noise()) > 0.3
    assert planted.matcher.distance([], planted.rows) == 0


def test_noise_learns_to_lead_where_the_right_rows_lead(planted: Planted, learnt: Matched) -> None:
    assert learnt.kept
    assert learnt.steps == 60
    noise = planted.noise()
    assert learnt.before == planted.matcher.distance(planted.lessons[1], noise)
    assert learnt.after == planted.matcher.distance(planted.lessons[1], learnt.rows)
    assert learnt.after < 0.5 * learnt.before
    often = slice(0, FREE - 1)
    likeness = torch.cosine_similarity(learnt.rows[often], planted.rows[often])
    assert float(likeness.mean()) > 0.25
    assert float(torch.cosine_similarity(noise[often], planted.rows[often]).mean()) < 0.1


def test_a_row_that_the_text_does_not_hold_stays(planted: Planted, learnt: Matched) -> None:
    moved = (learnt.rows != planted.noise()).any(1)
    assert not moved[FREE - 1]
    assert int(moved.sum()) > FREE // 2


def test_the_same_seed_gives_the_same_bits(planted: Planted) -> None:
    found = [planted.learn(planted.noise(), steps=4, seed=seed).rows for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_rows_that_are_right_stay(planted: Planted) -> None:
    found = planted.learn(planted.rows, steps=2)
    assert not found.kept
    assert found.rows is planted.rows
    assert found.before <= found.after


def test_without_time_the_first_steps_are_the_last(planted: Planted) -> None:
    assert planted.learn(planted.noise(), steps=None, minutes=0.0).steps == 3
    few = planted.lessons[0][:BATCH], planted.lessons[1][:1]
    assert planted.learn(planted.noise(), steps=None, minutes=60.0, lessons=few).steps == EPOCHS


@pytest.mark.parametrize("steps", [5, None])
def test_without_lessons_there_is_nothing_to_learn(planted: Planted, steps: int | None) -> None:
    found = planted.learn(planted.noise(), steps=steps, lessons=([], planted.lessons[1]))
    assert (found.steps, found.kept) == (0, False)
    assert torch.equal(found.rows, planted.noise())


def test_the_model_is_left_as_it_was(planted: Planted, learnt: Matched) -> None:
    embedding: Any = planted.base.get_input_embeddings()
    assert torch.equal(embedding.weight[planted.free], planted.rows)
    assert torch.equal(embedding(planted.free), planted.rows)
    assert all(parameter.grad is None for parameter in planted.base.parameters())


def test_states_that_are_not_finite_are_told(planted: Planted) -> None:
    start = planted.noise()
    start[0] = torch.nan
    with pytest.raises(RefitError, match=r"^the states of m are not finite at step 1 of matching;"):
        planted.learn(start)


def test_a_scaled_embedding_is_known_by_looking(untied: Bench) -> None:
    assert scale_of(untied.swapped.base.get_input_embeddings()) == 1.0  # type: ignore[operator]
    model = Family("gemma3_text", "Gemma3ForCausalLM").build()
    embedding = model.get_input_embeddings()
    assert scale_of(embedding) == pytest.approx(embedding.weight.shape[1] ** 0.5, rel=1e-3)
    # Its own rows, given by the hook, lead to its own states.
    free = torch.tensor([7, 9, 30])
    place = torch.full((len(embedding.weight),), -1)
    place[free] = torch.arange(3)
    ids = [5, 7, 8, 30, 9, 2]
    lesson = Lesson(ids, ids, list(range(6)), 1)
    matcher = Matcher(model, model, place, "m", Ranks())
    rows = embedding.weight.detach()[free]
    assert matcher.distance([lesson], rows) < 1e-9
    assert matcher.distance([lesson], rows * 1.5) > 1e-4
