"""What becomes of every tensor with an entry for each token, through the whole pipeline."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import build
from safetensors.torch import load_file, save_file
from transplants import tensors

from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant
from tokswap.vocabulary.align import Kind

LLAMA, MISTRAL = BUNDLED_FOLDER / "tiny-llama", BUNDLED_FOLDER / "tiny-mistral"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROWS = 6144


def swap(base: Path, out: Path, donor: Path = MISTRAL, **settings: Any) -> Transplant:
    settings = {"method": "pieces", "eval": False, "verify": False} | settings
    return transplant(base_model=str(base), donor=str(donor), out=str(out), **settings)


def with_tensors(folder: Path, **tensors: torch.Tensor) -> Path:
    """Write tiny-llama with more or other tensors, in two files with an index."""
    shutil.copytree(LLAMA, folder)
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    more = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    parts = {"model-1.safetensors": found | {n: t for n, t in more.items() if n in found}}
    parts["model-2.safetensors"] = {n: t for n, t in more.items() if n not in found}
    for file, part in parts.items():
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(t.nbytes for p in parts.values() for t in p.values())},
        "weight_map": {name: file for file, part in parts.items() for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_what_predicts_ahead_has_the_rows_of_its_role(tmp_path: Path) -> None:
    old = load_file(LLAMA / "model.safetensors")
    head = old.get(HEAD, old[EMBED])
    ahead = {"model__layers__9__embed_tokens__weight": old[EMBED] * 2,
             "model__layers__9__shared_head__head__weight": head * 4}  # fmt: skip
    swap(with_tensors(tmp_path / "base", **ahead), tmp_path / "out")
    new = tensors(tmp_path / "out")
    # Doubling is exact, and so is a combination of what was doubled.
    assert torch.equal(new["model.layers.9.embed_tokens.weight"], new[EMBED] * 2)
    table = new.get(HEAD, new[EMBED])
    assert torch.equal(new["model.layers.9.shared_head.head.weight"], table * 4)


UNKNOWN = {"a__map": torch.arange(ROWS), "b__map": torch.arange(ROWS) * 2}


def test_unknown_tensors_are_kept_and_dropped_as_the_user_says(tmp_path: Path) -> None:
    base = with_tensors(tmp_path / "base", **UNKNOWN)
    with pytest.raises(CheckpointError, match=r"a\.map \(6144,\).*--keep-tensor a\.map"):
        swap(base, tmp_path / "out")
    swap(base, tmp_path / "out", tensors={"keep": ["a.map"], "drop": ["b.map"]})
    found = tensors(tmp_path / "out")
    assert torch.equal(found["a.map"], UNKNOWN["a__map"])
    assert "b.map" not in found
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == found.keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in found.values())


def test_a_file_of_which_nothing_is_left_is_not_written(tmp_path: Path) -> None:
    base = with_tensors(tmp_path / "base", **UNKNOWN)
    swap(base, tmp_path / "out", tensors={"drop": ["a.map", "b.map"]})
    assert not (tmp_path / "out" / "model-2.safetensors").exists()
    assert Checkpoint.open(str(tmp_path / "out")).shards == ["model-1.safetensors"]


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """A Gemma 3n whose per-layer table ends 44 tokens before the vocabulary does."""
    folder = tmp_path / "gemma"
    model = build("gemma3n_text", "Gemma3nForCausalLM")
    torch.nn.init.normal_(model.model.embed_tokens_per_layer.weight)  # not even row 0 is zeros
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(LLAMA / file, folder)
    return folder


def test_a_table_that_ends_early_goes_on_by_its_first_row(gemma: Path, tmp_path: Path) -> None:
    name, out = "model.embed_tokens_per_layer.weight", tmp_path / "out"
    result = swap(gemma, out)
    old, new = tensors(gemma)[name], tensors(out)[name]
    assert len(old) == ROWS - 44
    source = result.plan.copied()[: len(new)]
    within, behind = (source >= 0) & (source < len(old)), source >= len(old)
    assert behind.any()
    assert torch.equal(new[within], old[source[within]])
    assert torch.equal(new[behind], old[:1].expand(int(behind.sum()), -1))
    assert json.loads((out / "config.json").read_text())["vocab_size_per_layer_input"] == len(new)


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    """An EAGLE-3 checkpoint: every third token of tiny-llama can be predicted."""
    targets = torch.arange(0, ROWS - 3, 3)
    mask = torch.zeros(ROWS, dtype=torch.bool)
    mask[targets] = True
    old = load_file(LLAMA / "model.safetensors")
    folder = with_tensors(
        tmp_path / "draft", d2t=targets - torch.arange(len(targets)), t2d=mask,
        lm_head__weight=old[EMBED][targets] * 3,
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    config |= {"draft_vocab_size": len(targets), "tie_word_embeddings": False}
    config["architectures"] = ["LlamaForCausalLMEagle3"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_draft_vocabulary_follows_its_tokens(drafter: Path, tmp_path: Path) -> None:
    result = swap(drafter, tmp_path / "out", verify=True)
    assert result.record["verified"]["model_class"] is None
    old, new = tensors(drafter), tensors(tmp_path / "out")
    ids = new["d2t"] + torch.arange(len(new["d2t"]))
    source = result.plan.copied()
    # Exactly the tokens that copy a draft token are draft tokens, each with its row of the head.
    assert sorted(ids.tolist()) == [
        n for n, s in enumerate(source.tolist()) if old["t2d"][s] and s >= 0
    ]
    assert torch.equal(new["t2d"].nonzero()[:, 0], ids.sort().values)
    assert torch.equal(new[HEAD], new[EMBED][ids] * 3)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["draft_vocab_size"] == len(
        ids
    )


def test_a_draft_vocabulary_on_its_own_tokenizer_is_the_same(drafter: Path, tmp_path: Path) -> None:
    swap(drafter, tmp_path / "out", donor=drafter)
    for file in ("model-1.safetensors", "model-2.safetensors", "config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (drafter / file).read_bytes()


def test_a_model_that_counts_positions_from_its_padding_keeps_it(tmp_path: Path) -> None:
    base = tmp_path / "roberta"
    build("roberta", "RobertaForMaskedLM").save_pretrained(base)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(LLAMA / file, base)
    result = swap(base, tmp_path / "out", verify=True, eval=True)
    assert result.evaluation is None  # it predicts no next token
    assert result.record["verified"]["model_class"] == "RobertaForMaskedLM"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pad_token_id"] == 1
    assert any("pad_token_id stays 1" in line for line in result.warnings)


def test_whole_numbers_of_tokens_are_those_of_the_weightiest_source(tmp_path: Path) -> None:
    base = tmp_path / "deepseek"  # its first layers choose experts by the token
    build("deepseek_v4", "DeepseekV4ForCausalLM").save_pretrained(base)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(LLAMA / file, base)
    name = "model.layers.0.ffn.gate.tid2eid"
    path = base / "model.safetensors"
    stored = load_file(path)
    stored[name] = torch.arange(ROWS)[:, None].expand_as(stored[name]).contiguous()
    save_file(stored, path, metadata={"format": "pt"})
    result = swap(base, tmp_path / "out")
    new = tensors(tmp_path / "out")[name][:, 0]
    assert new.dtype == stored[name].dtype
    source = result.plan.copied("output")
    assert torch.equal(new[source >= 0], source[source >= 0])
    missing = (result.plan.kind == int(Kind.MISSING)).nonzero()[:, 0].tolist()
    for number in missing[:50]:
        entries = [(n, w) for n, w in result.plan.explain(number)[1] if n < ROWS]
        assert not entries or (int(new[number]), max(w for _, w in entries)) in entries


def test_a_model_that_cannot_do_without_padding_pads_by_the_end_of_text(tmp_path: Path) -> None:
    base = tmp_path / "t5"
    model = build("t5", "T5ForConditionalGeneration")
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = settings.decoder_start_token_id = 6143
    model.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(LLAMA / name, base / name)
    result = swap(base, tmp_path / "out", verify=True)  # tiny-mistral has no token for padding
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    eos = Checkpoint.open(str(MISTRAL)).vocabulary.roles["eos"]
    assert config["pad_token_id"] == config["decoder_start_token_id"] == eos
    assert "pad_token_id is the end of text" in " ".join(result.warnings)
    assert result.record["verified"]["generated"]


def test_what_the_model_needs_is_not_dropped(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is a part of LlamaForCausalLM"):
        swap(LLAMA, tmp_path / "out", tensors={"drop": ["model.norm.weight"]})
    assert not list(tmp_path.iterdir())
