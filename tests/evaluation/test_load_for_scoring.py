import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    BartConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    RobertaConfig,
)

from tokswap.errors import EvaluationError
from tokswap.evaluation.load import default_window, load_for_scoring, position_limit


@pytest.fixture
def folder(llama: LlamaForCausalLM, byte_level: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(
        json.dumps(llama.config.to_dict() | {"dtype": "bfloat16"}), encoding="utf-8"
    )
    weights = {name: weight.bfloat16() for name, weight in llama.state_dict().items()}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    byte_level.save(str(path / "tokenizer.json"))
    return path


def test_a_folder_loads_in_float32_without_a_word(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    model, tokenizer = load_for_scoring(folder, device="cpu", dtype=None)
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    assert capfd.readouterr() == ("", "")


def test_the_dtype_is_the_asked_one(folder: Path) -> None:
    model, _ = load_for_scoring(folder, device="cpu", dtype="bfloat16")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["float", "int64", "Tensor", "float7"])
def test_a_dtype_that_is_none_is_refused(folder: Path, dtype: str) -> None:
    if dtype == "float":  # torch's other name of float32
        load_for_scoring(folder, device="cpu", dtype=dtype)
        return
    with pytest.raises(EvaluationError, match=f"dtype '{dtype}' is no floating-point type"):
        load_for_scoring(folder, device="cpu", dtype=dtype)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationError, match=r"lacks 1 weights .* model.layers.1.mlp.up_proj"):
        load_for_scoring(folder, device="cpu", dtype=None)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationError, match=r"lm_head.weight|mismatch"):
        load_for_scoring(folder, device="cpu", dtype=None)


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    state = json.loads((folder / "config.json").read_text("utf-8"))
    state |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "own.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    with pytest.raises(EvaluationError, match="does not load as a causal language model"):
        load_for_scoring(folder, device="cpu", dtype=None)


def test_a_folder_that_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"nosuch has no tokenizer.json; give a model folder"):
        load_for_scoring(tmp_path / "nosuch", device="cpu", dtype=None)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EvaluationError, match="tiny does not load as a causal language model: "):
        load_for_scoring(folder, device="cpu", dtype=None)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"tokenizer.json cannot be read as a tokenizer: "):
        load_for_scoring(folder, device="cpu", dtype=None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(EvaluationError, match=r"device 'cuda' cannot be used: .*; use 'cpu' or"):
        load_for_scoring(folder, device="cuda", dtype=None)
    with pytest.raises(EvaluationError, match="device 'nosuch' cannot be used"):
        load_for_scoring(folder, device="nosuch", dtype=None)


def test_the_window_follows_the_positions() -> None:
    small = LlamaConfig(max_position_embeddings=300)
    nested = SimpleNamespace(get_text_config=lambda decoder: small)
    assert default_window(small) == default_window(nested) == (300, 150)
    assert default_window(GPT2Config(n_positions=512)) == (512, 256)
    assert default_window(LlamaConfig(max_position_embeddings=8192)) == (1024, 512)
    assert default_window(SimpleNamespace()) == (1024, 512)
    assert position_limit(SimpleNamespace()) is None


def saved(config: PretrainedConfig, kind: str, tokenizer: Tokenizer, folder: Path) -> Path:
    getattr(transformers, kind)(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 2, "max_position_embeddings": 32}  # fmt: skip
SMALL_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "decoder_ffn_dim": 16,
              "encoder_ffn_dim": 16}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (RobertaConfig(**SMALL), "RobertaForMaskedLM"),
        (RobertaConfig(**SMALL), "RobertaModel"),
        (LlamaConfig(**SMALL, tie_word_embeddings=True), "LlamaForSequenceClassification"),
        (BartConfig(**SMALL_BART), "BartForConditionalGeneration"),
    ],
)
def test_what_predicts_no_next_token_is_refused(
    config: PretrainedConfig, kind: str, byte_level: Tokenizer, tmp_path: Path
) -> None:
    config.vocab_size = byte_level.get_vocab_size()
    with pytest.raises(EvaluationError, match=f"holds a {kind}, which predicts no next token"):
        load_for_scoring(saved(config, kind, byte_level, tmp_path))


def test_encoders_that_were_made_decoders_and_unknown_names_load(
    byte_level: Tokenizer, tmp_path: Path
) -> None:
    config = BertConfig(**SMALL, is_decoder=True, vocab_size=byte_level.get_vocab_size())
    folder = saved(config, "BertLMHeadModel", byte_level, tmp_path)
    path = folder / "config.json"
    said = json.loads(path.read_text("utf-8"))
    assert said["architectures"] == ["BertLMHeadModel"]
    for named in (["BertLMHeadModel"], ["LLaMAForCausalLM"], [], None):
        path.write_text(json.dumps(said | {"architectures": named}), encoding="utf-8")
        load_for_scoring(folder)
