"""The base that is trained through: with its own rows it is itself, with others it is another."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.hypernet.training.conftest import GAPS, KINDS, write_base
from tokswap.errors import CheckpointError
from tokswap.hypernet.training.frozen import FrozenBase, freeze

Frozen = Callable[[str], FrozenBase]
Tables = tuple[Tensor, Tensor | None, Tensor | None]


def own_tables(base: FrozenBase) -> Tables:
    bias = base.model.get_parameter(base.names["bias"]) if "bias" in base.names else None
    rows = torch.arange(base.rows)
    return *base.own(rows), None if bias is None else bias[: base.rows]


def some_ids(base: FrozenBase, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    own = torch.tensor(sorted(base.checkpoint.vocabulary.ids.values()))
    if base.first is not None:
        own = own[own != base.first - 1]  # which would count as no text
    return own[torch.randint(len(own), shape, generator=draw)]


def plain(base: FrozenBase, ids: Tensor) -> Tensor:
    """What the model itself says."""
    said = {"attention_mask": torch.ones_like(ids)} if base.mask is not None else {}
    with torch.no_grad():
        return base.model(input_ids=ids, **said).logits[..., : base.rows]


def run(base: FrozenBase, ids: Tensor, tables: Tables) -> Tensor:
    return base.logits(ids, *tables, torch.ones_like(ids, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_own_rows_it_is_itself(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 2, 13)
    with torch.no_grad():
        found = run(base, ids, own_tables(base))
    assert torch.equal(found, plain(base, ids))
    assert base.tied == (kind in {"tied", "positions", "capped", "states", *GAPS})
    assert ("bias" in base.names) == (kind in {"head bias", *GAPS})
    if base.mask is None:
        assert torch.equal(base.plain_logits(ids)[..., : base.rows], plain(base, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_rows_give_permuted_logits(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 2, 13)
    order = torch.randperm(base.rows, generator=torch.Generator().manual_seed(1))
    tables = tuple(None if table is None else table[order] for table in own_tables(base))
    with torch.no_grad():
        found = run(base, torch.argsort(order)[ids], tables)  # type: ignore[arg-type]
    assert torch.allclose(found, plain(base, ids)[..., order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_any_size(kind: str, frozen: Frozen) -> None:
    """A few of its rows give the logits of these, wherever they stand, and all get gradients."""
    base = frozen(kind)
    kept = some_ids(base, 100).unique()[:12]
    places = torch.arange(len(kept)).roll(5)[None]
    tables = tuple(
        None if t is None else t[kept].clone().requires_grad_() for t in own_tables(base)
    )
    found = run(base, places, tables)  # type: ignore[arg-type]
    assert found.shape == (1, len(kept), len(kept))
    assert torch.allclose(found, plain(base, kept[places])[..., kept], rtol=1e-4, atol=1e-5)
    found.logsumexp(dim=2).sum().backward()
    for table in tables:
        assert table is None or (table.grad is not None and table.grad.abs().sum(-1).all())
    assert all(parameter.grad is None for parameter in base.model.parameters())


@pytest.mark.parametrize("kind", ["head bias", *GAPS])
def test_without_a_bias_there_is_none(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 1, 5)
    inputs, outputs, bias = own_tables(base)
    with torch.no_grad():
        found = run(base, ids, (inputs, outputs, None))
    assert bias is not None
    assert torch.allclose(found + bias, plain(base, ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GAPS)
def test_gaps_are_filled_without_looking_behind_the_text(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 1, 9)
    there = torch.arange(9)[None] < 6
    with torch.no_grad():
        short = run(base, ids[:, :6], own_tables(base))
        long = base.logits(ids, *own_tables(base), there)
    assert torch.allclose(long[:, :6], short, rtol=1e-4, atol=1e-5)


def test_what_stands_around_texts(frozen: Frozen) -> None:
    vocabulary = frozen("gaps").checkpoint.vocabulary
    cls, sep, mask = (vocabulary.by_string[name] for name in ("[CLS]", "[SEP]", "[MASK]"))
    base = frozen("gaps")
    assert (base.before, base.behind, base.mask) == ((cls,), (sep,), mask)
    assert base.special == [cls, sep, mask]
    base = frozen("untied")
    start = base.checkpoint.vocabulary.by_string["<s>"]
    assert (base.before, base.behind, base.mask, base.special) == ((start,), (), None, [start])
    assert frozen("bare").special == []


def test_its_rows_are_those_that_are_stored(frozen: Frozen) -> None:
    base = frozen("untied")
    stored = load_file(base.checkpoint.files.path("model.safetensors"))
    count = len(base.checkpoint.vocabulary)
    inputs, outputs = stored["model.embed_tokens.weight"], stored["lm_head.weight"]
    assert len(inputs) > count == base.rows
    assert torch.equal(base.source, torch.cat([inputs, outputs], dim=1)[:count])
    assert base.width == 16
    ids = torch.tensor([5, 3])
    rows, heads = base.own(ids)
    assert torch.equal(rows, inputs[ids])
    assert heads is not None
    assert torch.equal(heads, outputs[ids])


def test_tokens_beyond_the_rows_have_zeros(tmp_path: Path) -> None:
    folder = write_base(tmp_path, "tied")
    said = json.loads((folder / "tokenizer.json").read_text())
    rows = len(load_file(folder / "model.safetensors")["model.embed_tokens.weight"])
    first, count = said["added_tokens"][0], len(said["model"]["vocab"])
    said["added_tokens"] += [
        {**first, "content": f"<{number}>", "id": number} for number in range(count, rows + 2)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(said))
    base, _ = freeze(str(folder))
    assert base.rows == rows
    assert len(base.source) == len(base.checkpoint.vocabulary) == rows + 2
    assert not base.source[rows:].any()


def test_positions_that_it_knows(frozen: Frozen) -> None:
    assert frozen("positions").limit == frozen("gaps").limit == 64
    assert (frozen("gaps from pad").limit, frozen("gaps from pad").first) == (62, 2)
    assert frozen("states").limit is None


def test_it_is_frozen(frozen: Frozen) -> None:
    model = frozen("tied").model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_base_with_a_copy_of_its_head_is_taken(tmp_path: Path) -> None:
    """Many tied checkpoints store their head beside the embedding."""
    folder = write_base(tmp_path, "tied")
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, path, metadata={"format": "pt"})
    base, _ = freeze(str(folder))
    assert base.tied
    ids = some_ids(base, 1, 5)
    with torch.no_grad():
        assert torch.equal(run(base, ids, own_tables(base)), plain(base, ids))


@pytest.mark.parametrize("missing", ["cls.predictions.transform.dense.weight"])
def test_a_model_that_lacks_a_weight_is_refused(missing: str, tmp_path: Path) -> None:
    """transformers would draw it at random."""
    folder = write_base(tmp_path, "gaps")
    stored = load_file(folder / "model.safetensors")
    del stored[missing]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lacks 1 weights .*{missing}"):
        freeze(str(folder))


def test_an_encoder_without_its_head_or_its_mask_is_refused(tmp_path: Path) -> None:
    folder = write_base(tmp_path, "gaps")
    path = folder / "tokenizer_config.json"
    roles = json.loads(path.read_text())
    del roles["mask_token"]
    path.write_text(json.dumps(roles))
    with pytest.raises(CheckpointError, match="neither predicts the next token nor fills gaps"):
        freeze(str(folder))


def test_rows_beside_the_tables_are_refused(tmp_path: Path) -> None:
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    folder = write_base(tmp_path, "capped")
    rows = len(load_file(folder / "model.safetensors")["model.embed_tokens.weight"])
    config = Gemma4TextConfig(
        vocab_size=rows, vocab_size_per_layer_input=rows, hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        hidden_size_per_layer_input=4, layer_types=["full_attention"] * 2,
        num_kv_shared_layers=0, global_head_dim=8,
    )  # fmt: skip
    Gemma4ForCausalLM(config).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"embed_tokens_per_layer.* predicts no such"):
        freeze(str(folder))
