"""A base whose rows are swapped in memory, against the folder that would be written."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint.quantised import models
from families import Family
from safetensors.torch import load_file, save_file

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.evaluation.load import loading_obstacle
from tokswap.evaluation.loaded import CutScore
from tokswap.evaluation.measure import SAMPLE, measure
from tokswap.evaluation.score import Score
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text
from tokswap.names import BUNDLED_FOLDER
from tokswap.output import write_folder
from tokswap.pair import Pair, open_pair
from tokswap.pipeline import plan_for
from tokswap.plan import Plan
from tokswap.recipe import Recipe, make_recipe

LLAMA, MISTRAL = "tiny-llama", "tiny-mistral"
SEEN: dict[str, int] = {"window": 48, "stride": 24}
CONTENT = SAMPLE.read_text(encoding="utf-8")[:900] + " naïve Rücksicht 12345 <s>\n"
TEXTS = (
    Text("first", lambda: iter([iter([CONTENT])])),
    Text("second", lambda: iter([iter(["Привет мир\n"]), iter([CONTENT[200:400]])])),
)


def recipe_of(base: str, donor: str, method: str = "pieces", **more: Any) -> Recipe:
    return make_recipe({"base_model": base, "donor": donor, "method": method, "eval": False} | more)


def written(pair: Pair, plan: Plan, recipe: Recipe) -> Score:
    """Measure the folder that a transplant writes."""
    with tempfile.TemporaryDirectory() as name:
        write_folder(Path(name), pair, plan, recipe)
        return measure(Checkpoint.open(name), TEXTS, device="cpu", **SEEN)


def same(found: Score, expected: Score) -> bool:
    """Tell whether two scores agree in all but the name of the model, up to rounding."""

    def close(one: Any, other: Any) -> bool:
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(close, one, other))
        if isinstance(one, float):
            return bool(one == pytest.approx(other, rel=1e-6))
        return bool(one == other)

    return close(found.to_dict(), replace(expected, model=found.model).to_dict())


def adds_up(found: CutScore) -> bool:
    """Tell whether what single tokens cost is what the score says."""
    nats = found.nats.sum().item() == pytest.approx(found.score.nats)
    return nats and int(found.counts.sum()) == found.score.tokens


@pytest.fixture(scope="module", params=[(LLAMA, MISTRAL), (MISTRAL, LLAMA)], ids=["tied", "untied"])
def bundled(request: pytest.FixtureRequest) -> tuple[Pair, SwappedModel]:
    pair = open_pair(recipe_of(*request.param))
    return pair, SwappedModel.load(pair)


def test_the_figures_are_those_of_the_written_folder(bundled: tuple[Pair, SwappedModel]) -> None:
    pair, model = bundled
    found = {}
    # Sparse rows, and rows that the plan holds as they are; one after the other, and again.
    for method in ("pieces", "normal", "pieces"):
        recipe = recipe_of(pair.base.name, pair.donor.name, method)
        plan = plan_for(pair, recipe)
        seen = model.swapped(plan, TEXTS, **SEEN, name=method)
        if method in found:
            assert seen.score == found[method]
            continue
        found[method] = seen.score
        assert seen.score.model == method
        assert same(seen.score, written(pair, plan, recipe))
        assert adds_up(seen)
        new = torch.from_numpy(pair.alignment.missing)
        assert seen.counts.shape == seen.nats.shape == (pair.alignment.rows,)
        group = seen.score.groups["new"]
        assert int(seen.counts[new].sum()) == group.tokens > 10
        assert seen.nats[new].sum().item() == pytest.approx(group.nats)
    new_tokens = [score.groups["new"].nats for score in found.values()]
    assert new_tokens[0] < new_tokens[1]  # pieces tell more than samples


def test_swapping_leaves_the_base_as_it_was(bundled: tuple[Pair, SwappedModel]) -> None:
    pair, model = bundled
    before, floor = model.own(TEXTS, **SEEN), model.floor(TEXTS, **SEEN)
    assert same(before.score, measure(pair.base, TEXTS, device="cpu", **SEEN))
    assert before.score.groups == {}
    assert before.counts.shape == (pair.alignment.base_rows,)
    plan = plan_for(pair, recipe_of(pair.base.name, pair.donor.name, "mean"))
    model.swapped(plan, TEXTS, **SEEN)
    assert model.own(TEXTS, **SEEN).score == before.score
    assert model.floor(TEXTS, **SEEN).score == floor.score
    assert adds_up(before)


@torch.no_grad()
def test_the_floor_costs_what_the_pieces_cost_one_by_one(
    bundled: tuple[Pair, SwappedModel],
) -> None:
    pair, model = bundled
    alignment, donor = pair.alignment, pair.donor.vocabulary
    text = CONTENT[:200]
    pieces = {number: [int(alignment.source[number])] for number in range(alignment.rows)}
    pieces |= alignment.pieces
    tokens = donor.backend.encode(text, add_special_tokens=False).ids
    start = pair.base.vocabulary.roles["bos"]
    ids = torch.tensor([[start, *(piece for token in tokens for piece in pieces[token])]])
    loaded: Any = model._base.model
    losses = -loaded(ids).logits[0].double().log_softmax(-1)[range(len(ids[0]) - 1), ids[0, 1:]]
    nats, place = torch.zeros(alignment.rows, dtype=torch.float64), 0
    for token in tokens:
        nats[token] += losses[place : place + len(pieces[token])].sum()
        place += len(pieces[token])
    assert place > len(tokens)
    found = model.floor([Text("t", lambda: iter([iter([text])]))], window=120, stride=60)
    assert torch.allclose(found.nats, nats, rtol=1e-4)
    assert torch.equal(found.counts, torch.tensor(tokens).bincount(minlength=alignment.rows))


def test_the_floor_counts_as_a_plan_does(bundled: tuple[Pair, SwappedModel]) -> None:
    pair, model = bundled
    plan = plan_for(pair, recipe_of(pair.base.name, pair.donor.name, "mean"))
    floor, swapped = model.floor(TEXTS, **SEEN), model.swapped(plan, TEXTS, **SEEN)
    assert torch.equal(floor.counts, swapped.counts)
    assert adds_up(floor)
    said = [
        [(s.tokens, s.bytes, s.unknown), *((g.tokens, g.bytes) for g in s.groups.values())]
        for s in (floor.score, swapped.score)
    ]
    assert said[0] == said[1]
    assert floor.score.bytes == sum(len(c.encode()) for t in TEXTS for d in t.open() for c in d)


def test_a_base_on_its_own_tokenizer_has_nothing_to_lose() -> None:
    pair = open_pair(recipe_of(MISTRAL, MISTRAL))
    model = SwappedModel.load(pair)
    own, floor = model.own(TEXTS, **SEEN), model.floor(TEXTS, **SEEN)
    swapped = model.swapped(plan_for(pair, recipe_of(MISTRAL, MISTRAL)), TEXTS, **SEEN)
    for found in (floor, swapped):
        assert replace(found.score, groups={}, model=own.score.model) == own.score
        assert torch.equal(found.counts, own.counts)
        assert torch.equal(found.nats, own.nats)
        assert found.score.groups["new"].tokens == 0


def test_permuted_ids_change_nothing(tmp_path: Path) -> None:
    said = json.loads((BUNDLED_FOLDER / LLAMA / "tokenizer.json").read_text())
    vocab = said["model"]["vocab"]
    order = list(range(len(vocab)))
    random.Random(5).shuffle(order)  # noqa: S311 - no secret
    order += [token["id"] for token in said["added_tokens"]]  # which come behind the others
    said["model"]["vocab"] = {token: order[number] for token, number in vocab.items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    shutil.copy(BUNDLED_FOLDER / LLAMA / "tokenizer_config.json", tmp_path)
    recipe = recipe_of(LLAMA, str(tmp_path), "mean")
    pair = open_pair(recipe)
    model = SwappedModel.load(pair)
    own, floor = model.own(TEXTS, **SEEN), model.floor(TEXTS, **SEEN)
    swapped = model.swapped(plan_for(pair, recipe), TEXTS, **SEEN)
    for found in (floor, swapped):
        assert torch.equal(found.counts[order], own.counts)
        assert torch.allclose(found.nats[order], own.nats, rtol=1e-5, atol=1e-5)
        assert found.score.bits_per_byte == pytest.approx(own.score.bits_per_byte, rel=1e-6)
    assert floor.score.nats == own.score.nats


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Write a small random model of a family, with the tokenizer of tiny-llama."""

    def write(model_type: str, class_name: str) -> str:
        folder = tmp_path / model_type
        Family(model_type, class_name).build().save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BUNDLED_FOLDER / LLAMA / file, folder)
        return str(folder)

    yield write
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "class_name"),
    [
        ("gpt2", "GPT2LMHeadModel"),  # tied, under other names
        ("gemma", "GemmaForCausalLM"),  # tied, and the embedding is scaled
        ("phi", "PhiForCausalLM"),  # the head has a bias
        ("mixtral", "MixtralForCausalLM"),  # experts that are put together while they load
        ("gemma3n_text", "Gemma3nForCausalLM"),  # a further table, which ends early
    ],
)
def test_other_families_are_swapped_too(
    made: Callable[[str, str], str], model_type: str, class_name: str
) -> None:
    recipe = recipe_of(made(model_type, class_name), MISTRAL)
    pair = open_pair(recipe)
    plan = plan_for(pair, recipe)
    found = SwappedModel.load(pair).swapped(plan, TEXTS, **SEEN)
    assert same(found.score, written(pair, plan, recipe))


def test_a_table_that_ends_early_ends_early_again(made: Callable[[str, str], str]) -> None:
    base = made("gemma3n_text", "Gemma3nForCausalLM")
    pair = open_pair(recipe_of(base, base))
    model = SwappedModel.load(pair)
    own = model.own(TEXTS, **SEEN)
    assert model.swapped(plan_for(pair, recipe_of(base, base)), TEXTS, **SEEN).score.nats == (
        own.score.nats
    )
    assert model._swap._crown is not None
    sizes = {len(table) for table in model._swap._crown.tables.values()}
    assert sizes == {6144, 6100}


def as_type(folder: Path, source: str, dtype: torch.dtype) -> str:
    shutil.copytree(BUNDLED_FOLDER / source, folder)
    file = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    said = json.loads((folder / "config.json").read_text())
    said.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(said | {"dtype": str(dtype)[6:]}))
    return str(folder)


def test_rows_are_rounded_as_they_are_stored(tmp_path: Path) -> None:
    recipe = recipe_of(as_type(tmp_path / "half", MISTRAL, torch.bfloat16), LLAMA)
    pair = open_pair(recipe)
    plan = plan_for(pair, recipe)
    model = SwappedModel.load(pair)
    found = model.swapped(plan, TEXTS, **SEEN).score
    assert found.dtype == "float32"
    assert same(found, written(pair, plan, recipe))
    assert model._swap._crown is not None
    for table in model._swap._crown.tables.values():
        assert torch.equal(table, table.bfloat16().float())


def test_a_type_to_compute_in_is_the_new_rows_too() -> None:
    recipe = recipe_of(LLAMA, MISTRAL)
    pair = open_pair(recipe)
    model = SwappedModel.load(pair, dtype="bfloat16")
    assert model.swapped(plan_for(pair, recipe), TEXTS[1:], **SEEN).score.dtype == "bfloat16"


def without_start(folder: Path, source: str) -> str:
    """Copy a tokenizer, but for what it puts before a text."""
    folder.mkdir()
    said = json.loads((BUNDLED_FOLDER / source / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(said | {"post_processor": None}))
    settings = json.loads((BUNDLED_FOLDER / source / "tokenizer_config.json").read_text())
    settings.pop("bos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_a_beginning_of_text_that_is_kept_stands_before_each_document(tmp_path: Path) -> None:
    recipe = recipe_of(
        LLAMA, without_start(tmp_path / "donor", MISTRAL), "mean", tokenizer={"bos": "keep"}
    )
    pair = open_pair(recipe)
    plan = plan_for(pair, recipe)
    model = SwappedModel.load(pair)
    found = model.swapped(plan, TEXTS, **SEEN).score
    assert same(found, written(pair, plan, recipe))
    assert model.floor(TEXTS, **SEEN).score.tokens == found.tokens


def test_what_begins_a_text_may_be_told_by_the_new_config_alone(tmp_path: Path) -> None:
    recipe = recipe_of(LLAMA, without_start(tmp_path / "donor", LLAMA), "mean")
    pair = open_pair(recipe)
    assert "bos" not in pair.donor.vocabulary.roles
    model = SwappedModel.load(pair)
    own = model.own(TEXTS, **SEEN)
    for found in (model.floor(TEXTS, **SEEN), model.swapped(plan_for(pair, recipe), TEXTS, **SEEN)):
        assert found.score.nats == own.score.nats


def test_a_plan_of_another_pair_is_refused(bundled: tuple[Pair, SwappedModel]) -> None:
    pair, model = bundled
    recipe = recipe_of(pair.donor.name, pair.base.name, "zero")
    with pytest.raises(EvaluationError, match=r"this pair has .* give a plan of this pair"):
        model.swapped(plan_for(open_pair(recipe), recipe), TEXTS, **SEEN)


def test_what_predicts_no_next_token_is_refused(made: Callable[[str, str], str]) -> None:
    pair = open_pair(recipe_of(made("bert", "BertForMaskedLM"), MISTRAL))
    with pytest.raises(EvaluationError, match="is a BertForMaskedLM, which predicts no next token"):
        SwappedModel.load(pair)


def test_a_quantised_base_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    models.write(tmp_path / "base", "awq")
    if loading_obstacle(tmp_path / "base") is None:
        pytest.skip("the packages for awq are installed")
    pair = open_pair(recipe_of(str(tmp_path / "base"), MISTRAL))
    with pytest.raises(EvaluationError, match=r"is quantised and cannot be loaded here .* plain"):
        SwappedModel.load(pair)


def test_windows_and_devices_that_cannot_be_are_refused(
    bundled: tuple[Pair, SwappedModel],
) -> None:
    pair, model = bundled
    plan = plan_for(pair, recipe_of(pair.base.name, pair.donor.name, "mean"))
    for measured in (model.own, model.floor, lambda *a, **k: model.swapped(plan, *a, **k)):
        with pytest.raises(EvaluationError, match="window 99999 is longer than the"):
            measured(TEXTS, window=99_999, stride=10)
    with pytest.raises(EvaluationError, match="device 'nowhere' cannot be used"):
        SwappedModel.load(pair, device="nowhere")
