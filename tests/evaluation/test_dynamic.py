"""Dynamic tokens on a bundled model: no merges are the plain model, and what is refused."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from families import build
from transformers import AutoModelForCausalLM

import tokswap
from tokswap.errors import EvaluationError, TokswapError
from tokswap.evaluation.dynamic import DynamicEvaluation, evaluate_dynamic
from tokswap.names import BUNDLED_FOLDER
from tokswap.vocabulary.tokens import load_vocabulary

TEXT = (BUNDLED_FOLDER / "sample.txt").read_text(encoding="utf-8")[:1500]
WINDOW, STRIDE = 24, 8


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "notes.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def found(text: Path) -> DynamicEvaluation:
    sizes = {"window": WINDOW, "stride": STRIDE, "batch": 20}
    return evaluate_dynamic("tiny-mistral", merges=40, texts=[text], **sizes, method="pieces")


def test_no_merges_are_the_plain_model(found: DynamicEvaluation) -> None:
    folder = BUNDLED_FOLDER / "tiny-mistral"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = load_vocabulary({p.name: p for p in folder.iterdir()}, name="m")
    ids = [vocabulary.roles["bos"], *vocabulary.backend.encode(TEXT, add_special_tokens=False).ids]
    nats, size = 0.0, 0
    before = WINDOW - STRIDE
    for start in range(0, len(ids) - before, STRIDE):
        window = torch.tensor([ids[start : start + WINDOW]])
        with torch.inference_mode():
            said = model(window).logits[0].log_softmax(dim=1)
        for place in range(before, window.shape[1]):
            token = int(window[0, place])
            nats -= float(said[place - 1, token])
            size += len(vocabulary.spelling[token] or b"")
    plain = found.results[0]
    assert (found.bytes, found.tokens) == (size, len(ids) - before)
    assert plain.nats == pytest.approx(nats, rel=1e-5)
    assert plain.bits_per_byte == pytest.approx(nats / size / 0.6931471805599453, rel=1e-5)
    assert (plain.merges, plain.shorter, plain.dynamic) == (0, 0.0, 0.0)
    assert plain.prefix_tokens == before


def test_more_merges_are_shorter(found: DynamicEvaluation) -> None:
    assert [score.merges for score in found.results] == [0, 4, 10, 20, 40]
    lengths = found.lengths
    assert len(lengths) == 41
    assert all(after < before for before, after in pairwise(lengths))
    for score in found.results:
        assert score.made == score.merges
        assert score.prefix_tokens == pytest.approx(lengths[score.merges])
        assert score.shorter == pytest.approx(1 - lengths[score.merges] / lengths[0])
    shares = [score.dynamic for score in found.results]
    assert shares == sorted(shares)
    assert len({score.nats for score in found.results}) == 5
    # The rows mean something: the last figure is not what an empty prefix would give.
    assert found.results[-1].bits_per_byte < 1.1 * found.results[0].bits_per_byte


def test_the_last_batch_is_none_of_leftovers(found: DynamicEvaluation) -> None:
    assert found.batches == round(found.windows / found.batch)
    assert found.saturated == 0


def test_it_is_json(found: DynamicEvaluation) -> None:
    said = json.loads(json.dumps(found.to_dict()))
    assert said["results"][1]["merges"] == 4
    assert said["texts"] == ["notes.txt"]
    assert len(said["lengths"]) == 41


def test_when_nothing_is_left_to_merge_it_is_said(text: Path) -> None:
    found = tokswap.evaluate_dynamic(
        "tiny-llama", merges=4000, texts=[text], window=60, stride=50, batch=100, boundary="words"
    )
    assert found.saturated == found.batches == 1
    *_, before, last = found.results
    assert last.made == before.made < before.merges < last.merges == 4000
    assert last.nats == before.nats
    assert len(found.lengths) == 4001
    assert found.lengths[-1] == found.lengths[int(last.made)]


def test_with_a_donor_only_its_tokens_are_made(text: Path) -> None:
    settings: dict[str, Any] = {"donor": "tiny-llama", "parameters": {"k": 4}}
    found = evaluate_dynamic(
        "tiny-mistral", merges=4000, texts=[text], window=60, stride=50, **settings
    )
    assert 0 < found.results[-1].dynamic < 1
    assert found.method == "omp-pieces"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"merges": 0}, "0 merges in batches of 32 windows are nothing to measure"),
        ({"batch": 0}, "100 merges in batches of 0 windows are nothing"),
        ({"boundary": "word"}, "'word' is no boundary; did you mean 'words'"),
        ({"stride": 40, "window": 40}, "a stride of 40 leaves nothing of a window of 40"),
        ({"window": 5000}, "window 5000 is longer than the 256 positions"),
        ({}, r"short\.txt has no document longer than the 128 tokens of a prefix"),
        ({"max_bytes": 3}, "max_bytes limits datasets, and none was given"),
        ({"parameters": {"k": 3}}, "parameters"),
    ],
)
def test_bad_input(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Too short.", encoding="utf-8")
    with pytest.raises(TokswapError, match=message):
        evaluate_dynamic("tiny-llama", texts=[path], **settings)


@pytest.mark.parametrize(
    ("model_type", "class_name", "message"),
    [
        (
            "gemma3n_text",
            "Gemma3nForCausalLM",
            r"looks up model\.embed_tokens_per_layer\.weight beside the embedding of each token",
        ),
        ("bert", "BertForMaskedLM", "is a BertForMaskedLM, which predicts no next token"),
        ("t5", "T5ForConditionalGeneration", "is a T5ForConditionalGeneration, which predicts no"),
    ],
)
def test_models_that_cannot_be_shown_rows_are_refused(
    tmp_path: Path, model_type: str, class_name: str, message: str
) -> None:
    build(model_type, class_name).save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, tmp_path)
    with pytest.raises(EvaluationError, match=message):
        evaluate_dynamic(str(tmp_path), merges=3)
