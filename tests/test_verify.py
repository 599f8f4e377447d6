"""A fresh process looks at what was written: what it accepts, and what it finds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transplants import swap

from tokswap.checkpoint.source import Checkpoint
from tokswap.cli.transplant import print_transplant
from tokswap.errors import VerificationError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.verify import verify
from tokswap.vocabulary.align import Kind


def test_verify_accepts_the_result_and_finds_what_is_tampered_with(tmp_path):
    out = tmp_path / "out"
    result = swap("tiny-llama", "tiny-mistral", out, verify=True)
    pair = open_pair(result.recipe)
    copied = 2 + result.record["counts"]["shared"] - len(pair.alignment.doubles)
    assert result.record["verified"]["copied_rows"] == copied

    weights = out / "model.safetensors"
    whole = weights.read_bytes()
    row = int(np.setdiff1d(pair.alignment.ids(Kind.SHARED), pair.alignment.doubles)[100])
    start = 8 + int.from_bytes(whole[:8], "little")
    info = Checkpoint.open(str(out)).info("model.embed_tokens.weight")
    place = start + info.begin + row * info.shape[1] * 2
    weights.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(VerificationError, match=r"embed_tokens.*differ from the base's"):
        verify(out, pair, same_dtype=True)
    weights.write_bytes(whole)

    said = json.loads((out / "tokenizer_config.json").read_text())
    changed = said | {"add_prefix_space": False, "tokenizer_class": "GPT2Tokenizer"}
    (out / "tokenizer_config.json").write_text(json.dumps(changed))
    with pytest.raises(VerificationError, match=r"GPT2Tokenizer|does not load"):
        verify(out, pair, same_dtype=True)


@pytest.fixture
def qwen2(tmp_path) -> Path:
    """A base of a type that transformers gives a tokenizer class of its own."""
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (base / "config.json").write_text(json.dumps(config))
    held = load_file(base / "model.safetensors")
    for name in [name for name in held if name.endswith("q_proj.weight")]:
        for part in "qkv":
            weight = held[name.replace("q_proj", f"{part}_proj")]
            held[name.replace("q_proj.weight", f"{part}_proj.bias")] = torch.zeros(len(weight))
    save_file(held, base / "model.safetensors", {"format": "pt"})
    return base


def test_a_tokenizer_that_transformers_would_replace_is_mended(qwen2, tmp_path):
    out = tmp_path / "out"
    result = swap(qwen2, "tiny-mistral", out, method="mean", verify=True)
    assert result.record["verified"]["tokenizer_class"] == "TokenizersBackend"
    said = result.record["tokenizer"]
    assert (said["class"], said["remedy"], said["fault"]) == ("TokenizersBackend", "no code", None)
    assert len(said["changed"]) == 2
    assert any("auto_map" in warning for warning in result.warnings)
    assert "auto_map without code" in (out / "README.md").read_text()
    donor = BUNDLED_FOLDER / "tiny-mistral" / "tokenizer.json"
    assert (out / "tokenizer.json").read_bytes() == donor.read_bytes()

    shutil.copy(donor.with_name("tokenizer_config.json"), out)  # as if nothing had been mended
    with pytest.raises(VerificationError, match=r"Qwen2Tokenizer.*otherwise than tokenizer.json"):
        verify(out, open_pair(result.recipe), same_dtype=True)


def test_a_tokenizer_that_cannot_be_mended_is_said_in_the_end(tmp_path, capsys):
    """A donor's own settings contradict its tokenizer.json."""
    donor, out = tmp_path / "donor", tmp_path / "out"
    shutil.copytree(BUNDLED_FOLDER / "tiny-mistral", donor)
    said = json.loads((donor / "tokenizer_config.json").read_text())
    (donor / "tokenizer_config.json").write_text(json.dumps(said | {"split_special_tokens": True}))
    result = swap("tiny-llama", donor, out, method="mean", verify=True)
    assert "otherwise than tokenizer.json" in result.record["tokenizer"]["fault"]
    line = 'PreTrainedTokenizerFast(tokenizer_file="path/to/this/folder/tokenizer.json")'
    assert result.record["tokenizer"]["load"] == line
    assert any(line in warning for warning in result.warnings)
    assert f"tokenizer = {line}" in (out / "README.md").read_text()
    assert result.record["verified"]["tokenizer_class"] == "TokenizersBackend"
    print_transplant(result)
    assert line in capsys.readouterr().out.splitlines()[-2]


def test_the_check_runs_no_code_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "regex.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path / "here")
    result = swap("tiny-llama", "tiny-mistral", tmp_path / "out", method="mean", verify=True)
    assert result.record["verified"]["generated"]
