"""Steps made ready: what the ids spell, what is to be predicted, and going on in the middle."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.hypernet.training.conftest import CAUSAL, GAPS, KINDS, TEXT, small_recipe
from tokswap.hypernet.surface import SurfaceForms
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.prepared import Chunked, Identity, Prepared, Preparer
from tokswap.hypernet.training.recipe import TrainRecipe
from tokswap.hypernet.training.sampler import SampledTokenizer, TokenizerSampler
from tokswap.hypernet.training.setup import begin
from tokswap.hypernet.training.source_text import Spans

Frozen = Callable[[str], FrozenBase]


@cache
def forms_for(base: FrozenBase) -> SurfaceForms:
    """What cuts tokens for a base, in so many pieces that none is truncated."""
    return begin(small_recipe(network={"pieces": 20}), base).forms


def preparer(base: FrozenBase, recipe: TrainRecipe, forms: SurfaceForms | None = None) -> Preparer:
    sources = [Spans([TEXT], [n]) for n in range(max(len(recipe.sources), 1))]
    return Preparer(recipe, base, forms or forms_for(base), sources)


class Watched:
    """What the sources gave and the samplers made, as the steps came."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.texts: list[list[str]] = []
        self.tokenizers: list[SampledTokenizer] = []
        batch, sample = Spans.batch, TokenizerSampler.sample

        def read(source: Spans, count: int, characters: int) -> list[str]:
            self.texts.append(batch(source, count, characters))
            return self.texts[-1]

        def made(sampler: TokenizerSampler, rng: Any) -> SampledTokenizer:
            self.tokenizers.append(sample(sampler, rng))
            return self.tokenizers[-1]

        patch.setattr(Spans, "batch", read)
        patch.setattr(TokenizerSampler, "sample", made)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def chosen_tokens(base: FrozenBase, step: Prepared, tokenizer: SampledTokenizer) -> list[bytes]:
    """Spell the tokens of a step by the pieces that the network reads of them."""
    forms = forms_for(base).forms(tokenizer.tokens)[0]
    known = dict(zip(map(tuple, forms.tolist()), tokenizer.tokens, strict=True))
    return [known[tuple(form)] for form in step.forms.tolist()]


def prepare(kind: str, frozen: Frozen, **said: Any) -> tuple[FrozenBase, TrainRecipe, Prepared]:
    base = frozen(kind)
    recipe = small_recipe(identity_steps=0, **said)
    step = preparer(base, recipe).step(0)
    assert isinstance(step, Prepared)
    return base, recipe, step


@pytest.mark.parametrize("kind", KINDS)
def test_ids_spell_the_texts(kind: str, frozen: Frozen, watched: Watched) -> None:
    base, recipe, step = prepare(kind, frozen)
    (tokenizer,) = watched.tokenizers
    tokens = chosen_tokens(base, step, tokenizer)
    count = len(tokens)
    special = dict(enumerate(base.special, count))
    assert len(set(tokens)) == count == 200
    for row, text in enumerate(watched.texts[-1]):
        # What stands there: of a text that goes on, all that is read and the last that is not.
        read = step.ids[row].tolist()
        whole = read if base.mask is not None else [read[0], *step.targets[row].tolist()]
        there = step.there[row].tolist()
        if base.mask is not None:
            gaps = step.wanted[row].tolist()
            assert all(special[n] == base.mask for n, gap in zip(read, gaps, strict=True) if gap)
            whole = step.targets[row].tolist()
        line = [n for n, is_there in zip(whole, [*there, True], strict=False) if is_there]
        line = line[: recipe.length]
        before, behind = len(base.before), len(base.behind)
        assert [special[n] for n in line[:before]] == list(base.before)
        assert [special[n] for n in line[len(line) - behind :]] == list(base.behind)
        inner = line[before : len(line) - behind]
        wanted = tokenizer.backend.encode(text).ids[: recipe.length - before - behind]
        assert [tokens[n] for n in inner[: len(wanted)]] == [tokenizer.tokens[n] for n in wanted]
        assert text.encode().startswith(b"".join(tokens[n] for n in inner[: len(wanted)]))


@pytest.mark.parametrize("kind", CAUSAL)
def test_each_token_is_predicted_from_those_before_it(kind: str, frozen: Frozen) -> None:
    base, _, step = prepare(kind, frozen, texts=12, characters=30)
    count = len(step.forms)
    assert not step.there.all()  # some texts are shorter than others
    assert torch.equal(step.ids[:, 1:], step.targets[:, :-1])
    assert (step.ids < count + len(base.special)).all()
    assert (step.targets[step.wanted] < count).all()  # special tokens are not
    assert step.wanted.any(dim=1).all()
    if base.before:
        assert (step.ids[:, 0] == count).all()
        assert step.wanted[:, 0].all()
    assert torch.equal(step.wanted[:, :-1], step.there[:, 1:])


@pytest.mark.parametrize("kind", GAPS)
def test_gaps_are_among_the_texts(kind: str, frozen: Frozen) -> None:
    base, _, step = prepare(kind, frozen, masked=0.3, texts=40)
    count = len(step.forms)
    mask = count + base.special.index(base.mask or 0)
    assert torch.equal(step.ids == mask, step.wanted)
    assert torch.equal(step.ids[~step.wanted], step.targets[~step.wanted])
    assert (step.targets[step.wanted] < count).all()
    text = step.there & (step.targets < count)
    assert 0.2 < float(step.wanted.sum() / text.sum()) < 0.4


@pytest.mark.parametrize("kind", ["untied", "gaps"])
def test_bytes_are_those_of_what_is_predicted(kind: str, frozen: Frozen, watched: Watched) -> None:
    base, _, step = prepare(kind, frozen)
    tokens = chosen_tokens(base, step, watched.tokenizers[0])
    assert step.bytes == sum(len(tokens[n]) for n in step.targets[step.wanted].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_own_ids_are_the_bases_of_the_same_bytes(
    kind: str, frozen: Frozen, watched: Watched
) -> None:
    base, _, step = prepare(kind, frozen)
    vocabulary = base.checkpoint.vocabulary
    tokens = chosen_tokens(base, step, watched.tokenizers[0])
    own = step.own.tolist()
    assert own == [vocabulary.ids.get(token, -1) for token in tokens]
    assert all(
        vocabulary.spelling[n] == token for n, token in zip(own, tokens, strict=True) if n >= 0
    )
    assert sum(number >= 0 for number in own) > 3


@pytest.mark.parametrize("tokens", [None, 512, 10_000])
def test_all_tokens_where_none_are_left_out(
    tokens: int | None, frozen: Frozen, watched: Watched
) -> None:
    base, _, step = prepare("tied", frozen, tokenizers={"tokens": tokens})
    assert chosen_tokens(base, step, watched.tokenizers[0]) == watched.tokenizers[0].tokens


def test_tokens_of_the_texts_are_always_there(frozen: Frozen, watched: Watched) -> None:
    base, _, step = prepare("tied", frozen, tokenizers={"tokens": 1})
    tokens = set(chosen_tokens(base, step, watched.tokenizers[0]))
    tokenizer = watched.tokenizers[0]
    used = {
        tokenizer.tokens[n]
        for text in watched.texts[-1]
        for n in tokenizer.backend.encode(text).ids[:23]
    }
    assert tokens == used


def test_truncated_tokens_are_counted(frozen: Frozen, watched: Watched) -> None:
    base = frozen("bare")
    recipe = small_recipe(identity_steps=0, tokenizers={"tokens": None}, network={"pieces": 2})
    step = preparer(base, recipe, begin(recipe, base).forms).step(0)
    assert isinstance(step, Prepared)
    assert step.forms.shape[1] == 2
    forms, none = forms_for(base).forms(watched.tokenizers[0].tokens)
    assert none == 0
    assert step.truncated == int(((forms != forms_for(base).pad).sum(dim=1) > 2).sum()) > 0


@pytest.mark.parametrize("kind", ["tied", "untied", "bare", "capped"])
def test_chunks_have_the_same_bytes_on_both_sides(
    kind: str, frozen: Frozen, watched: Watched
) -> None:
    base, recipe, step = prepare(kind, frozen, loss={"chunks": 1.0}, texts=8)
    chunked, vocabulary = step.chunked, base.checkpoint.vocabulary
    assert isinstance(chunked, Chunked)
    tokens = chosen_tokens(base, step, watched.tokenizers[0])
    assert chunked.chunks.shape == step.targets.shape
    assert chunked.ids.shape[1] == chunked.given.shape[1] + 1 <= recipe.length + len(base.before)
    assert int(chunked.counts.max()) > 5
    first = 0 if base.before else 1
    for row, text in enumerate(watched.texts[-1]):
        own = vocabulary.backend.encode(text, add_special_tokens=False).ids
        read = chunked.ids[row].tolist()
        line = [*base.before, *own][: len(read)]
        assert read[: len(line)] == line
        spelt = [*tokens, *(b"" for _ in base.special)]
        ours = by_chunk(chunked.chunks[row], [spelt[n] for n in step.targets[row].tolist()])
        theirs = by_chunk(chunked.given[row], [vocabulary.spelling[n] or b"" for n in read[1:]])
        assert list(ours) == list(theirs) == list(range(first, int(chunked.counts[row])))
        if not first:
            assert text.encode().startswith(b"".join(ours.values()))
        if kind == "untied":  # SentencePiece sets a space before the text
            mine = ours.pop(0)
            assert theirs.pop(0) in {mine, b" " + mine}  # or takes the one that is there
        assert ours == theirs
        assert not (chunked.chunks[row][~step.wanted[row]] >= 0).any()


def by_chunk(chunks: Tensor, tokens: Sequence[bytes]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for chunk, token in zip(chunks.tolist(), tokens, strict=True):
        if chunk >= 0:
            found[chunk] = found.get(chunk, b"") + token
    return found


def test_without_their_loss_there_are_no_chunks(frozen: Frozen) -> None:
    assert prepare("tied", frozen)[2].chunked is None


def same(one: Any, other: Any) -> bool:
    """Compare two steps, field by field and tensor by tensor."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in fields
        )
    return bool(one == other)


LANGUAGES = [
    {"text": "x", "language": "en", "weight": 3},
    {"text": "y", "language": "de"},
    {"text": "z", "language": "en"},
]


@pytest.mark.parametrize("first", [1, 3, 4, 7])
def test_restored_in_the_middle_the_same_steps_follow(first: int, frozen: Frozen) -> None:
    base = frozen("untied")
    recipe = small_recipe(steps=12, loss={"chunks": 1.0}, sources=LANGUAGES)
    one = preparer(base, recipe)
    steps = [one.step(number) for number in range(12)]
    before = [step for step in steps[:first] if isinstance(step, Prepared)]
    state = json.loads(json.dumps(before[-1].state if before else preparer(base, recipe).state()))
    other = preparer(base, recipe)
    other.restore(state)
    assert other.state() == state
    for number in range(first, 12):
        assert same(other.step(number), steps[number]), number


def test_a_step_is_decided_by_the_seed(frozen: Frozen) -> None:
    base = frozen("tied")
    one, same_seed, other = (
        preparer(base, small_recipe(identity_steps=0, seed=seed)).step(0) for seed in (1, 1, 2)
    )
    assert same(one, same_seed)
    assert not same(one, other)


def test_sources_are_taken_by_their_weights(frozen: Frozen) -> None:
    base = frozen("tied")
    recipe = small_recipe(
        identity_steps=0,
        steps=60,
        texts=1,
        characters=20,
        sources=LANGUAGES,
        tokenizers={"batches": 1, "tokens": 1},
    )
    made = preparer(base, recipe)
    found = [made.step(number) for number in range(60)]
    german = sum(step.language == 1 for step in found if isinstance(step, Prepared))
    assert 4 <= german <= 22  # of 60 steps a fifth
    assert {step.language for step in found if isinstance(step, Prepared)} == {0, 1}


@pytest.mark.parametrize("kind", ["tied", "untied", "gaps"])
def test_identity_steps_ask_for_tokens_of_the_base(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    recipe = small_recipe(identity_steps=3, steps=3, identity_tokens=15)
    vocabulary = base.checkpoint.vocabulary
    steps = [preparer(base, recipe).step(number) for number in range(3)]
    for number, step in enumerate(steps):
        assert isinstance(step, Identity)
        ids = step.ids.tolist()
        assert step.step == number
        assert len(set(ids)) == 15
        assert set(ids) <= set(vocabulary.ids.values()) - set(vocabulary.special)
    assert not same(steps[0], steps[1])
    recipe = small_recipe(identity_steps=3, steps=3, identity_tokens=10**6)
    step = preparer(base, recipe).step(0)
    assert isinstance(step, Identity)
    assert set(step.ids.tolist()) == set(vocabulary.ids.values())


def test_texts_are_read_into_the_tokenizers_first(frozen: Frozen, watched: Watched) -> None:
    """A tokenizer is sampled from so many batches, of which the last one is cut."""
    base = frozen("tied")
    made = preparer(base, small_recipe(identity_steps=0, tokenizers={"batches": 5}))
    made.step(0)
    assert len(watched.texts) == 5
    made.step(1)
    assert len(watched.texts) == 6


def test_no_source_is_read_before_it_is_needed(frozen: Frozen, watched: Watched) -> None:
    preparer(frozen("tied"), small_recipe(identity_steps=2)).step(0)
    assert watched.texts == []
