"""Models with more tokens: every old row and setting stays, new rows come by the method."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig, PhiForCausalLM
from transplants import tensors

from tokswap.application import apply
from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError, EvaluationError, MethodError, OutputError, RecipeError
from tokswap.extension import extend
from tokswap.names import BUNDLED_FOLDER
from tokswap.vocabulary.align import Kind

WORDS = [" hypernetwork", " zymurgy", " hypernetworks"]


def grow(model: str | Path, out: Path, tokens: Any = WORDS, **settings: Any) -> Transplant:
    settings = {"eval": False, "verify": False} | settings
    return extend(str(model), tokens, out=str(out), **settings)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with a head bias and 64 rows without a token."""
    folder = tmp_path_factory.mktemp("phi")
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=6208,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=6141,
        eos_token_id=6142,
        dtype="float16",
    )
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.half().save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    del said["bos_token_id"]  # left to the default of the class
    said["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "config.json").write_text(json.dumps(said))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, folder)
    return folder


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_all_that_was_there_stays(name: str, tmp_path: Path) -> None:
    base = BUNDLED_FOLDER / name
    result = grow(base, tmp_path / "out", tokenizer={"pad_to_multiple_of": 64})
    said = result.record["extended"]
    rows = len(Checkpoint.open(name).vocabulary)
    new = [*said["tokens"].values(), *said["intermediates"].values()]
    assert new == [*range(rows, rows + len(new))]
    assert result.record["counts"]["missing"] == len(new)
    before, after = tensors(base), tensors(tmp_path / "out")
    grown = {key for key in before if len(after[key]) != len(before[key])}
    assert grown == {key for key in before if len(before[key]) == rows}
    for key, old in before.items():
        assert torch.equal(bits(after[key][: len(old)]), bits(old))
    for file in ("generation_config.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (base / file).read_bytes()
    folders = tmp_path / "out", base
    config, old_config = (json.loads((f / "config.json").read_text()) for f in folders)
    assert config["vocab_size"] == -(-(rows + len(new)) // 64) * 64
    assert config | {"vocab_size": rows} == old_config


def test_new_rows_are_the_methods(tmp_path: Path) -> None:
    for name, tied in (("tiny-llama", True), ("tiny-mistral", False)):
        result = grow(name, tmp_path / name)
        base, plan = Checkpoint.open(name), result.plan
        assert result.recipe.parameters == {"strategy": "suited"}
        number = result.record["extended"]["tokens"][" zymurgy"]
        ids = base.vocabulary.backend.encode("x zymurgy", add_special_tokens=False).ids
        pieces = ids[len(base.vocabulary.backend.encode("x", add_special_tokens=False).ids) :]
        assert len(pieces) > 2
        kind, entries = plan.explain(number)
        assert kind == "missing"
        weights = {piece: 1 / len(pieces) for piece in pieces} if tied else {pieces[-1]: 1.0}
        assert dict(entries) == pytest.approx(weights)
    zero = grow("tiny-mistral", tmp_path / "zero", overrides=["method=zero"])
    assert not tensors(zero.folder)["lm_head.weight"][4096:].any()


def test_rows_without_a_token_are_taken_first(phi: Path, tmp_path: Path) -> None:
    result = grow(phi, tmp_path / "out", method="mean", how="added")
    assert (
        result.record["counts"] | {"unused": 61, "missing": 3, "donor_size": 6208}
        == (result.record["counts"])
    )
    before, after = tensors(phi), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for key, old in before.items():
        assert after[key].shape == old.shape
        if len(old) == 6208:
            assert torch.equal(bits(after[key][:6144]), bits(old[:6144]))
            assert torch.equal(bits(after[key][6147:]), bits(old[6147:]))
            assert not torch.equal(after[key][6144:6147], old[6144:6147])
        else:
            assert torch.equal(bits(after[key]), bits(old))
    assert (tmp_path / "out" / "config.json").read_bytes() == (phi / "config.json").read_bytes()


def test_the_result_is_the_same_model_on_other_text(tmp_path: Path) -> None:
    grow("tiny-mistral", tmp_path / "out")
    text = "def main(self, name):\n    return the value of this"
    states = []
    for folder in (BUNDLED_FOLDER / "tiny-mistral", tmp_path / "out"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.inference_mode():
            states.append(model(**tokenizer(text, return_tensors="pt")).logits[..., :4096])
    assert torch.equal(*states)
    assert tokenizer("x zymurgy", add_special_tokens=False)["input_ids"][-1] == 4097


def test_the_plan_can_be_applied_to_a_fine_tune(phi: Path, tmp_path: Path) -> None:
    grow(phi, tmp_path / "made", how="added")
    made = apply(tmp_path / "made", str(phi), out=str(tmp_path / "out"), eval=False, verify=False)
    before, after = tensors(tmp_path / "made"), tensors(made.folder)
    assert all(torch.equal(bits(before[key]), bits(after[key])) for key in before)


def test_a_users_own_row_has_the_last_word(tmp_path: Path) -> None:
    override = {"tokens": {" zymurgy": {"source": " value"}}}
    result = grow("tiny-llama", tmp_path / "out", tokenizer=override)
    number = result.record["extended"]["tokens"][" zymurgy"]
    assert result.plan.kind[number] == Kind.OVERRIDE
    table = tensors(tmp_path / "out")["model.embed_tokens.weight"]
    source = Checkpoint.open("tiny-llama").vocabulary.find(" value")
    assert torch.equal(table[number], table[source])


def test_files_that_repeat_the_vocabulary_are_left_out(phi: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(phi, base)
    for name in ("vocab.json", "merges.txt", "tokenizer.model", "LICENSE"):
        (base / name).write_text("{}")
    result = grow(base, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"vocab.json", "merges.txt", "tokenizer.model"}
    assert "LICENSE" in names
    told = "merges.txt, tokenizer.model, vocab.json would say otherwise"
    assert any(line.startswith(told) for line in result.warnings)
    card = (tmp_path / "out" / "README.md").read_text()
    count = result.record["counts"]["missing"]
    assert (
        f"# base with {count} more tokens\n\n`{base}` with {count} tokens behind those of" in card
    )


def test_ids_that_the_model_has_another_use_for_are_not_taken(phi: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(phi, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"image_token_id": 6145}))
    with pytest.raises(CheckpointError, match=r"names token 6145 \(image_token_id\), which"):
        grow(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"method": "omp"},
            MethodError,
            "omp reads a donor's weights, and there is no",
        ),
        (
            {"overrides": ["donor=tiny-mistral"]},
            RecipeError,
            "donor cannot be set, for the model",
        ),
        (
            {"chat_template": "none", "overrides": ["tokenizer.size=tight"]},
            RecipeError,
            r"chat_template and tokenizer\.size cannot be set",
        ),
        ({"tokens": "nowhere.txt"}, RecipeError, "the list of tokens nowhere.txt cannot be read"),
        ({"tokens": []}, RecipeError, "nothing to add"),
        ({"tokens": ["New York"]}, RecipeError, "cannot have one of the tokens"),
        ({"texts": ["nowhere.txt"]}, EvaluationError, "nowhere.txt cannot be read"),
        (
            {"method": "hypernet", "parameters": {"checkpoint": "x", "shared": "predict"}},
            MethodError,
            "hypernet is to fill the rows of tokens that 'tiny-llama' has",
        ),
        ({"method": "peices"}, RecipeError, "did you mean 'pieces'"),
        ({"model": BUNDLED_FOLDER / "tiny-llama", "out": BUNDLED_FOLDER}, OutputError, "."),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    settings = {"model": "tiny-llama", "out": tmp_path / "out"} | settings
    with pytest.raises(error, match=message):
        grow(settings.pop("model"), settings.pop("out"), **settings)
    assert not (tmp_path / "out").exists()
