"""Bases that are loaded to be trained through: what is read of them, and which are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hypernet.training.conftest import write_base
from tokswap.errors import CheckpointError
from tokswap.hypernet.training import freezing
from tokswap.hypernet.training.freezing import freeze
from tokswap.hypernet.training.frozen import FrozenBase

Frozen = Callable[[str], FrozenBase]


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
    assert base.names == {"input": "model.embed_tokens.weight"}


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["untied", "gaps from pad"])
def test_a_base_is_computed_in_the_stated_type(kind: str, dtype: str, tmp_path: Path) -> None:
    """Its rows are read as they are stored."""
    base, _ = freeze(str(write_base(tmp_path, kind)), dtype=dtype)
    assert next(base.model.parameters()).dtype == getattr(torch, dtype)
    assert base.source.dtype == torch.float32
    assert not torch.equal(base.source, base.source.to(getattr(torch, dtype)).float())


def test_a_base_that_goes_by_more_than_its_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RoBERTa would, to which one of the new ids is the padding's."""
    folder = str(write_base(tmp_path, "gaps from pad"))
    freeze(folder)
    monkeypatch.setattr(freezing, "_first_position", lambda _: None)
    with pytest.raises(CheckpointError, match="RobertaForMaskedLM that does not go by the rows"):
        freeze(folder)
