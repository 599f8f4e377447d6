"""Where models of pictures and text, encoders and draft models keep their vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from checkpoint.saved import EMBED, HEAD, LLAMA, Save, of, rewrite, roles
from tokswap.checkpoint.draft import DraftVocabulary
from tokswap.checkpoint.layout import VocabTensor, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

GEMMA3 = {
    "text_config": {**LLAMA, "head_dim": 4, "layer_types": ["full_attention"]},
    "vision_config": {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8,
    },
    "mm_tokens_per_image": 4, "image_token_index": 5,
}  # fmt: skip


@pytest.fixture
def gemma3(tmp_path: Path) -> Path:
    config = transformers.Gemma3Config(**GEMMA3)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    return tmp_path


def test_the_text_tower_is_found_under_its_prefix(gemma3: Path) -> None:
    found = of(gemma3)
    assert found.input == "language_model.model.embed_tokens.weight"  # as published checkpoints
    assert found.tied
    assert found.model_class == "Gemma3ForConditionalGeneration"


def test_a_size_that_a_nested_config_leaves_to_defaults_is_said(gemma3: Path) -> None:
    path = gemma3 / "config.json"
    config = json.loads(path.read_text())
    del config["text_config"]["vocab_size"]
    path.write_text(json.dumps(config))
    rewrite(gemma3, lambda tensors: {
        name: torch.zeros(262_208, 8) if name.endswith("embed_tokens.weight") else tensor
        for name, tensor in tensors.items()
    })  # fmt: skip
    found = find_layout(Checkpoint.open(str(gemma3)))
    assert found.unsaid["text_config"]["vocab_size"] == 262_208


@pytest.mark.parametrize("key", ["vocab_offset", "vocabulary_map", "additional_vocab_size"])
def test_models_with_pictures_among_the_token_ids_are_refused(gemma3: Path, key: str) -> None:
    path = gemma3 / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"][key] = {"<image>": 3} if key == "vocabulary_map" else 32
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"among the token ids \({key} in config.json\)"):
        of(gemma3)
    assert find_layout(Checkpoint.open(str(gemma3)), tables_only=True).input  # a donor's matter not


@pytest.fixture
def encoder(tmp_path: Path) -> Callable[..., Path]:
    """Save a random encoder."""
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "vocab_size": 37}
    more = {"num_attention_heads": 2, "max_position_embeddings": 16, "type_vocab_size": 1}

    def write(kind: str, head: str, **settings: Any) -> Path:
        config = getattr(transformers, f"{kind}Config")(**sizes, **more, **settings)
        getattr(transformers, f"{kind}{head}")(config).save_pretrained(tmp_path)
        return tmp_path

    return write


WORDS = "bert.embeddings.word_embeddings.weight"


def test_an_encoder_has_an_output_bias(encoder: Callable[..., Path]) -> None:
    found = of(encoder("Bert", "ForMaskedLM"))
    assert (found.input, found.output, found.model_class) == (WORDS, WORDS, "BertForMaskedLM")
    assert roles(found) == {WORDS: "input", "cls.predictions.bias": "output"}
    assert not found.counts_from_pad


def test_roberta_counts_positions_from_its_padding(encoder: Callable[..., Path]) -> None:
    assert of(encoder("Roberta", "ForMaskedLM", pad_token_id=1)).counts_from_pad


@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification"])
def test_an_encoder_without_a_head_has_one_table(encoder: Callable[..., Path], head: str) -> None:
    found = of(encoder("Bert", head))
    assert found.tied
    assert [tensor.role for tensor in found.tensors] == ["input"]
    assert found.model_class == f"Bert{head}"


def test_a_bias_along_another_axis(tmp_path: Path) -> None:
    config = transformers.BartConfig(
        vocab_size=37, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    assert VocabTensor("final_logits_bias", "output", axis=1, rows=37) in of(tmp_path).tensors


DRAFT = {
    "d2t": torch.tensor([1, 3, 3]), "t2d": torch.zeros(37, dtype=torch.bool),
    HEAD: torch.zeros(3, 8), "fc.weight": torch.zeros(8, 24),
}  # fmt: skip


def test_a_draft_vocabulary_is_found(save: Save) -> None:
    folder = save("Llama", **LLAMA, architectures=["LlamaForCausalLMEagle3"])
    rewrite(folder, lambda tensors: tensors | DRAFT)
    found = of(folder)
    assert found.draft == DraftVocabulary("d2t", "t2d", (HEAD,), 3)
    assert roles(found) == {EMBED: "input"}
    assert found.model_class == ""


def test_a_draft_model_without_an_embedding_is_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != EMBED} | DRAFT)
    with pytest.raises(CheckpointError, match=r"draft vocabulary \(d2t\) and stores no embedding"):
        of(folder)
