"""Rows on demand against the plan of a real pair, and what the cache keeps."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import tokswap
from tokswap.errors import MethodError, NameUnknownError, RecipeError
from tokswap.methods import Problem
from tokswap.methods.normal import Normal
from tokswap.methods.pieces import Pieces
from tokswap.names import BUNDLED_FOLDER
from tokswap.on_demand.embedder import TokenEmbedder, embedder
from tokswap.pair import open_pair
from tokswap.planning import make_plan
from tokswap.recipe import make_recipe

Open = Callable[[str], TokenEmbedder]
NEW = [b" tokenizer", b"qqqq", " Straße".encode(), b"\xe2\x96", b"  == ", b"a" * 300]


class Counted(Pieces):
    """Pieces, and which tokens were asked for."""

    asked: ClassVar[list[list[bytes | None]]] = []

    def fill(self, problem: Problem) -> Any:
        spelling = problem.alignment.donor.spelling
        self.asked.append([spelling[number] for number in problem.ids])
        return super().fill(problem)


def counted(opened: TokenEmbedder, kept: int) -> TokenEmbedder:
    Counted.asked.clear()
    return replace(opened, methods={"input": Counted(), "output": Counted()}, kept=kept)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_the_bases_tokens_keep_their_rows(opened: Open, name: str) -> None:
    found = opened(name)
    ids = found.vocabulary.ids
    rows = found.embed(list(ids))
    assert torch.equal(rows.inputs, found.table("input")[list(ids.values())])
    assert torch.equal(rows.outputs, found.table("output")[list(ids.values())])
    assert (rows.outputs is rows.inputs) == found.tied == (name == "tiny-llama")
    assert rows.bias is None


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("pieces", {"strategy": "asymmetric"}),
        ("mean", {}),
        ({"input": "pieces", "output": "omp"}, {"output": {"k": 4}}),
    ],
    ids=str,
)
def test_rows_are_those_of_a_plan(method: Any, parameters: dict[str, Any]) -> None:
    said = {"base_model": "tiny-mistral", "donor": "tiny-llama"}
    recipe = make_recipe(said | {"method": method, "parameters": parameters})
    pair = open_pair(recipe)
    alignment, some = pair.alignment, pair.alignment.missing[::40].tolist()
    plan = make_plan(alignment, recipe.methods, pair.tables(), only=some)
    tokens = [alignment.donor.spelling[number] or b"" for number in some]

    donor = "tiny-llama" if recipe.needs_donor else None
    found = embedder("tiny-mistral", method=method, parameters=parameters, donor=donor)
    rows = found.embed(tokens)
    for made, role in ((rows.inputs, "input"), (rows.outputs, "output")):
        assert torch.equal(made, plan.apply(found.table(role), role)[some])
    assert not torch.equal(rows.inputs, rows.outputs)


def test_order_and_company_do_not_matter(opened: Open) -> None:
    tokens = [*NEW, b" the", NEW[0], b" the"]
    together = replace(opened("tiny-mistral")).embed(tokens)
    for part, tables in enumerate(together[:2]):
        assert isinstance(tables, Tensor)
        fresh = replace(opened("tiny-mistral"))
        alone = [fresh.embed([data])[part] for data in reversed(tokens)]
        assert torch.equal(tables, torch.cat(alone[::-1]))  # type: ignore[arg-type]


def test_no_tokens_have_no_rows(opened: Open) -> None:
    rows = opened("tiny-mistral").embed([])
    assert rows.inputs.shape == rows.outputs.shape == (0, 144)


def test_the_cache_is_bounded_exact_and_forgets_the_oldest(opened: Open) -> None:
    a, b, c, d, *_ = NEW
    found = counted(opened("tiny-llama"), kept=3)
    first = found.embed([a, b, c])
    assert torch.equal(found.embed([c, a, b]).inputs, first.inputs[[2, 0, 1]])
    assert Counted.asked == [[a, b, c]]
    found.embed([a])  # now b is the oldest
    found.embed([c, d])
    assert Counted.asked == [[a, b, c], [d]]
    assert torch.equal(found.embed([a, c]).inputs, first.inputs[[0, 2]])
    assert Counted.asked == [[a, b, c], [d]]
    assert torch.equal(found.embed([b]).inputs, first.inputs[[1]])
    assert Counted.asked == [[a, b, c], [d], [b]]
    assert len(found._cache) == 3


def test_more_tokens_than_are_kept_have_their_rows(opened: Open) -> None:
    found = counted(opened("tiny-llama"), kept=2)
    assert torch.equal(found.embed(NEW).inputs, replace(found, kept=100).embed(NEW).inputs)
    assert len(found._cache) == 2


def test_the_bases_own_tokens_take_no_place_in_the_cache(opened: Open) -> None:
    found = counted(opened("tiny-llama"), kept=2)
    found.embed([NEW[0], NEW[1]])
    found.embed([b" the", b" a", b" in"])
    found.embed([NEW[0], NEW[1]])
    assert len(Counted.asked) == 1


def test_rows_that_are_drawn_differ_between_questions(opened: Open) -> None:
    def drawn() -> TokenEmbedder:
        return replace(opened("tiny-llama"), methods={"input": Normal(), "output": Normal()})

    found = drawn()
    first, second = found.embed([NEW[0]]).inputs, found.embed([NEW[1]]).inputs
    assert not torch.equal(first, second)
    assert torch.equal(found.embed([NEW[0]]).inputs, first)
    assert torch.equal(drawn().embed([NEW[1]]).inputs, second)


@pytest.mark.parametrize("name", ["retok", "fvt", "transplant-vocab", "zero"])
def test_any_method_without_a_donor_serves(name: str) -> None:
    rows = embedder("tiny-mistral", method=name).embed(NEW)
    assert rows.inputs.shape == (len(NEW), 144)
    assert bool(rows.inputs.isfinite().all())


@pytest.fixture(scope="module")
def with_bias(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose head has a bias, with the tokenizer of tiny-llama."""
    from transformers import PhiConfig, PhiForCausalLM

    folder = tmp_path_factory.mktemp("phi")
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=6144,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(folder)
    for path in (BUNDLED_FOLDER / "tiny-llama").glob("tokenizer*.json"):
        shutil.copy(path, folder)
    return folder


def test_a_bias_is_filled_like_the_head(with_bias: Path) -> None:
    found = embedder(str(with_bias), method="pieces")
    rows = found.embed([b" the", NEW[0]])
    table, bias = found.table("output"), found.bias
    assert bias is not None
    assert rows.bias is not None
    assert torch.equal(rows.bias[0], bias[found.find(b" the") or 0])
    pieces = found.pieces([NEW[0]])[0]
    assert len(pieces) == 2
    torch.testing.assert_close(rows.bias[1], bias[pieces].mean())
    torch.testing.assert_close(rows.outputs[1], table[pieces].mean(dim=0))
    assert rows.bias[1] != 0


def test_a_token_that_the_donor_has_not_is_named(opened: Open) -> None:
    found = embedder("tiny-mistral", donor="tiny-llama", parameters={"k": 4})
    known = next(data for data in found.pair.donor.vocabulary.ids if found.find(data) is None)
    with pytest.raises(MethodError, match="fills the tokens of 'tiny-llama' alone, and 'qqqq' is"):
        found.embed([b" the", known, b"qqqq", b"zzzz"])
    assert [found.serves(data) for data in (b" the", known, b"qqqq", b"")] == [1, 1, 0, 0]
    assert opened("tiny-mistral").serves(b"qqqq")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "omp"}, MethodError, "omp reads a donor's weights and none is given; name"),
        (
            {"method": "pieces", "donor": "tiny-mistral"},
            MethodError,
            "pieces reads no donor's weights, and 'tiny-mistral' is given; leave it out",
        ),
        ({"method": "piece"}, RecipeError, "'piece' is unknown; did you mean 'pieces'"),
        ({"parameters": {"strategy": 3}}, RecipeError, r"parameters\.strategy"),
    ],
)
def test_what_cannot_be_opened(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        embedder("tiny-llama", **settings)


@pytest.mark.parametrize("tokens", [[b""], [b" the", b""]])
def test_an_empty_token_is_refused(opened: Open, tokens: Sequence[bytes]) -> None:
    with pytest.raises(NameUnknownError, match="an empty token has no row"):
        opened("tiny-llama").embed(tokens)


def test_the_public_name() -> None:
    rows = tokswap.embedder("tiny-llama").embed([b" tokenizer"])
    assert rows.inputs.shape == (1, 128)
