"""Checking pairs by name: bundled models, a real transplant, folders that cannot be measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tokswap import check
from tokswap.errors import EvaluationError, NameUnknownError
from tokswap.evaluation.draft import DraftCheck
from tokswap.evaluation.draft_rules import ENGINES
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant

QUICK: dict[str, Any] = {"prompts": 2, "tokens": 16, "draft_tokens": 3, "device": "cpu"}


def answers(found: DraftCheck) -> dict[str, bool]:
    return {verdict.engine: verdict.yes for verdict in found.verdicts}


@pytest.fixture(scope="session")
def transplanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """tiny-mistral with the vocabulary of tiny-llama, as the pipeline writes it."""
    out = tmp_path_factory.mktemp("transplanted") / "draft"
    transplant(
        base_model="tiny-mistral",
        donor="tiny-llama",
        method="pieces",
        out=str(out),
        eval=None,
        verify=False,
    )
    return str(out)


def test_a_model_drafts_for_itself() -> None:
    found = check("tiny-llama", "tiny-llama", **QUICK)
    assert answers(found) == {engine: engine != "transformers-universal" for engine in ENGINES}
    assert found.acceptance is not None
    assert found.acceptance.rate == 1.0
    assert (found.way, found.unmeasured) == ("transformers", "")


def test_another_tokenizer_is_translated_and_refused_elsewhere() -> None:
    found = check("tiny-mistral", "tiny-llama", **QUICK)
    assert {engine for engine, yes in answers(found).items() if yes} == {
        "transformers-universal",
        "vllm-tli",
    }
    for engine in ("transformers", "vllm"):
        verdict = found.verdict(engine)
        assert "the draft has 4,096 rows and the target 6,144" in verdict.reason
        assert "(id 0 is <unk> in tiny-mistral and '!' in tiny-llama)" in verdict.reason
        assert "tokswap transplant --base tiny-mistral --donor tiny-llama" in verdict.advice
    assert found.way == "transformers-universal"
    assert found.acceptance is not None
    assert 0 < found.acceptance.rate < 1
    assert found.acceptance.unlike == 0


def test_a_transplant_makes_a_draft(transplanted: str) -> None:
    found = check(transplanted, "tiny-llama", **QUICK)
    assert answers(found) == {engine: engine != "transformers-universal" for engine in ENGINES}
    assert found.acceptance is not None
    assert 0 < found.acceptance.rate < 1
    assert found.acceptance.unlike == 0
    assert found.difference.differing == 0


def test_the_json_form(transplanted: str) -> None:
    said = json.loads(json.dumps(check(transplanted, "tiny-llama", **QUICK).to_dict()))
    assert (said["draft"], said["target"]) == (transplanted, "tiny-llama")
    assert [verdict["engine"] for verdict in said["verdicts"]] == list(ENGINES)
    for verdict in said["verdicts"]:
        assert verdict.keys() == {"engine", "yes", "reason", "advice", "rule"}
    assert said["verdicts"][0]["rule"].startswith(f"transformers {transformers.__version__}")
    assert said["vocabulary"]["target_rows"] == 6144
    acceptance = said["acceptance"]
    assert acceptance["rate"] == acceptance["accepted"] / acceptance["proposed"]
    assert (acceptance["way"], acceptance["text"]) == ("transformers", "sample.txt")
    assert said["unmeasured"] is None


def test_rules_need_no_weights(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / name, tmp_path)
    found = check(str(tmp_path), "tiny-llama", **QUICK)
    assert answers(found)["vllm"]
    assert found.acceptance is None
    assert "has no weights" in found.unmeasured
    assert check(str(tmp_path), "tiny-llama", measure=False).unmeasured == "not asked for"


@pytest.mark.filterwarnings("ignore")
def test_what_transformers_cannot_do_after_all_is_a_no(tmp_path: Path) -> None:
    """RecurrentGemma hides its state, so that the failure shows only when it runs."""
    transformers.logging.set_verbosity_error()
    config = transformers.RecurrentGemmaConfig(
        vocab_size=6144,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        lru_width=16,
        attention_window_size=8,
    )
    torch.manual_seed(0)
    transformers.RecurrentGemmaForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / name, tmp_path)
    assert check(str(tmp_path), "tiny-llama", measure=False).verdict("transformers").yes
    found = check(str(tmp_path), "tiny-llama", **QUICK)
    assert not found.verdict("transformers").yes
    assert "the assisted generation of transformers fails: " in found.unmeasured
    assert found.verdict("transformers").reason == found.unmeasured
    assert found.acceptance is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "tokens is 0; give 1 or more"),
        ({"prompts": -1}, "prompts is -1; give 1 or more"),
        ({"tokens": 300}, "tiny-llama has 256 positions, too few for 32 tokens of prompt"),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
        ({"text": "nowhere.txt"}, "nowhere.txt cannot be read"),
    ],
)
def test_what_was_asked_for_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        check("tiny-llama", "tiny-llama", **(QUICK | settings))


@pytest.mark.parametrize("pair", [("tiny-lama", "tiny-llama"), ("tiny-llama", "tiny-lama")])
def test_a_misspelt_name(pair: tuple[str, str]) -> None:
    with pytest.raises(NameUnknownError, match="did you mean 'tiny-llama'"):
        check(*pair)


def test_what_predicts_no_next_token_neither_drafts_nor_is_drafted_for(tmp_path: Path) -> None:
    for name, model in (("t5", "T5ForConditionalGeneration"), ("bert", "BertForMaskedLM")):
        folder = tmp_path / name
        shutil.copytree(BUNDLED_FOLDER / "tiny-llama", folder)
        config = {"model_type": name, "architectures": [model], "vocab_size": 6144}
        config |= {"is_encoder_decoder": True} if name == "t5" else {}
        (folder / "config.json").write_text(json.dumps(config))
        for pair in ((str(folder), "tiny-llama"), ("tiny-llama", str(folder))):
            found = check(*pair, measure=False)
            assert not any(verdict.yes for verdict in found.verdicts)
            assert f"is a {model}, which predicts no next token" in found.verdicts[0].reason
