"""What a training begins with: a network of the right sizes, that others can open."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hypernet.training.conftest import KINDS, small_recipe
from tokswap.errors import TrainingError
from tokswap.hypernet.published import open_published
from tokswap.hypernet.stored import save
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.setup import begin

Frozen = Callable[[str], FrozenBase]
TOKENS = [b"the", b" the", b"th", b"\xff", "é".encode(), b"quick brown", b"{}", b"\n\n"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"states", "positions"}])
def test_what_is_stored_opens_again_and_predicts_the_same(
    kind: str, frozen: Frozen, tmp_path: Path
) -> None:
    base = frozen(kind)
    begun = begin(small_recipe(), base)
    save(tmp_path, begun.network, **begun.layout)
    opened = open_published(str(tmp_path))
    assert opened.config == begun.network.config
    assert opened.base == base.checkpoint.name
    opened.check_base(base.checkpoint.vocabulary, rows=base.rows, width=base.width, tied=base.tied)
    forms, truncated = begun.forms.forms(TOKENS)
    again, as_many = opened.surface_forms.forms(TOKENS)
    assert torch.equal(forms, again)
    assert truncated == as_many
    with torch.no_grad():
        one, other = begun.network(forms, base.source), opened.load()(again, base.source)
    for name, rows in vars(one).items():
        found = getattr(other, name)
        assert (rows is None) == (found is None)
        assert rows is None or torch.allclose(rows, found, rtol=1e-5, atol=1e-6)
    assert (one.outputs is None) == base.tied
    assert (one.bias is None) == ("bias" not in base.names)


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_has_the_padding_among_its_pieces(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    begun = begin(small_recipe(network={"pieces": 9}), base)
    config, vocabulary = begun.network.config, base.checkpoint.vocabulary
    tokens = [bytes([byte]) for byte in range(256)] + list(vocabulary.ids)
    forms, _ = begun.forms.forms(tokens)
    assert (forms[:, 0] != config.pad_token_id).all()
    assert int(forms.max()) < config.original_vocab_size + config.extra
    assert config.original_vocab_size == len(base.source) == len(vocabulary)
    # A token of the base is one piece, itself, where its own tokenizer can reach it.
    own = torch.tensor(list(vocabulary.ids.values()))
    alone = (forms[256:, 1] == config.pad_token_id) & (forms[256:, 0] == own)
    assert float(alone.float().mean()) > 0.9


def test_a_new_network_predicts_rows_of_the_bases_size(frozen: Frozen) -> None:
    base = frozen("untied")
    network = begin(small_recipe(), base).network
    with torch.no_grad():
        found = network(torch.arange(base.rows)[:, None], base.source)
    for rows, own in zip(
        (found.inputs, found.outputs), base.own(torch.arange(base.rows)), strict=True
    ):
        assert torch.allclose(rows.std(0), own.std(0), rtol=0.05)  # type: ignore[union-attr]
        assert torch.allclose(rows.mean(0), own.mean(0), atol=0.02)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "width", "heads", "inner"),
    [
        ({}, 16, 1, 32),  # the base's width
        ({"width": 200}, 200, 2, 400),  # three heads would not divide it
        ({"width": 256}, 256, 4, 512),
        ({"heads": 3}, 18, 3, 36),  # a multiple of the heads
        ({"width": 24, "heads": 4, "inner": 50}, 24, 4, 50),
        ({"width": 193}, 193, 1, 386),
    ],
)
def test_sizes(said: dict[str, Any], width: int, heads: int, inner: int, frozen: Frozen) -> None:
    recipe = small_recipe(network={**said, "layers": 2, "pieces": 5})
    config = begin(recipe, frozen("tied")).network.config
    assert (config.hn_hidden_size, config.heads, config.hn_intermediate_size) == (
        width,
        heads,
        inner,
    )
    assert (config.hn_n_layers, config.hn_surface_maxlen) == (2, 5)


def test_weights_are_drawn_by_the_seed(frozen: Frozen) -> None:
    base = frozen("tied")
    one, same, other = (begin(small_recipe(seed=seed), base).network for seed in (4, 4, 5))
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_languages_of_the_recipe_are_told_apart(frozen: Frozen) -> None:
    sources = [{"text": "x", "language": name} for name in ("fr", "en", "fr")]
    network = begin(small_recipe(sources=sources), frozen("tied")).network
    assert (network.config.languages, network.config.langs) == (2, ["fr", "en"])


def test_the_recipe_and_the_base_are_noted(frozen: Frozen, tmp_path: Path) -> None:
    recipe = small_recipe()
    begun = begin(recipe, frozen("tied"))
    save(tmp_path, begun.network, **begun.layout)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["tokswap"]["training"] == recipe.deciding()
    assert len(said["tokswap"]["base"]["sha256"]) == 64
    assert said["hn_predict_bias"] is False


def test_texts_longer_than_the_base_has_positions_for_are_refused(frozen: Frozen) -> None:
    begin(small_recipe(length=64), frozen("positions"))
    with pytest.raises(TrainingError, match="length: 65 tokens are more than the 64 that"):
        begin(small_recipe(length=65), frozen("positions"))
    with pytest.raises(TrainingError, match="length: 63 tokens are more than the 62 that"):
        begin(small_recipe(length=63), frozen("gaps from pad"))
    begin(small_recipe(length=10_000), frozen("states"))
