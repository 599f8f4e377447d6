"""Tokenizers that are sampled: what they are made of, and that they cut any text."""

import json
from collections import Counter

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from tokswap.hypernet.training.sampler import (
    LONGEST,
    WORDS,
    SampledTokenizer,
    TokenizerSampler,
    unigram,
)

TEXTS = [
    "The quick brown fox jumps over the lazy dog; it's 1984, and the dogs don't mind.\n\n  So.",
    "नमस्ते दुनिया, यह हिन्दी है। क्षेत्र में १२३ लोग",
    "naïve café, Привет мир, こんにちは世界, 🦊🦊 – e\u0301te\u0301 \u00a0\u2003x\x1cy\x85z",
]
EVERY = "".join(map(chr, range(700)))


def sampler(**more: float) -> TokenizerSampler:
    made = TokenizerSampler(**{"size": 400, "noise": 0.0, **more})  # type: ignore[arg-type]
    made.push(TEXTS)
    return made


def sample(made: TokenizerSampler, seed: int = 0) -> SampledTokenizer:
    return made.sample(np.random.default_rng(seed))


def probabilities(texts: list[str], stride: int) -> dict[bytes, float]:
    """Count from the definition: occurrences times length, over the sum of all."""
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    found: Counter[bytes] = Counter()
    for text in texts:
        for word, _ in split.pre_tokenize_str(text):
            data = word.encode()
            for start in range(0, len(data), stride):
                for end in range(start + 1, min(start + LONGEST, len(data)) + 1):
                    found[data[start:end]] += end - start
    total = sum(found.values())
    return {part: count / total for part, count in found.items()}


def logarithms(made: SampledTokenizer) -> list[float]:
    return [score for _, score in json.loads(made.backend.to_str())["model"]["vocab"]]


def test_text_is_cut_into_words_as_stated() -> None:
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    words = [word for word, _ in split.pre_tokenize_str("it's नमस्ते दुनिया, 12 x\n\n  y")]
    assert words == ["it", "'s", " नमस्ते", " दुनिया", ",", " 12", " x", "\n\n ", " y"]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_counted_as_the_tokenizer_cuts_them(text: str) -> None:
    """Two libraries read the same expression: one counts, the other one cuts."""
    made = TokenizerSampler(300)
    made.push([text])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    assert made._words == Counter(word.encode() for word, _ in split.pre_tokenize_str(text))


@pytest.mark.parametrize("stride", [1, 4])
def test_without_noise_the_most_probable_substrings_are_taken(stride: int) -> None:
    wanted = probabilities(TEXTS, stride)
    made = sample(sampler(stride=stride))
    assert len(made.tokens) == len(set(made.tokens)) == 400
    assert made.tokens[:256] == [bytes([byte]) for byte in range(256)]
    taken = made.tokens[256:]
    scores = logarithms(made)[256:]
    assert scores == pytest.approx([np.log(wanted[token]) for token in taken])
    assert scores == sorted(scores, reverse=True)
    long = {token: p for token, p in wanted.items() if len(token) > 1}
    assert [long[t] for t in taken] == pytest.approx(sorted(long.values(), reverse=True)[:144])
    assert max(map(len, taken)) <= LONGEST


def test_single_bytes_are_as_probable_as_the_least_token() -> None:
    scores = logarithms(sample(sampler()))
    assert set(scores[:256]) == {min(scores[256:])}


def test_a_small_text_gives_all_its_substrings() -> None:
    made = TokenizerSampler(5000, noise=0.0, stride=1)
    made.push(["abc"])
    assert set(sample(made).tokens[256:]) == {b"ab", b"bc", b"abc"}
    made = TokenizerSampler(5000)
    made.push([])
    assert len(sample(made).tokens) == 256


def test_the_same_draw_gives_the_same_tokenizer() -> None:
    made = sampler(noise=1e-3)
    one, same, other = sample(made, 1), sample(made, 1), sample(made, 2)
    assert one.tokens == same.tokens
    assert one.backend.to_str() == same.backend.to_str()
    assert one.tokens != other.tokens
    assert len(other.tokens) == 400


def test_noise_changes_what_is_taken_and_how_probable_it_is() -> None:
    """With much of it any substring may come, each still once and within words."""
    made = sampler(noise=1.0, spread=0.0)
    wanted = probabilities(TEXTS, 4)
    taken = sample(made).tokens[256:]
    assert set(taken) <= wanted.keys()
    assert len(set(taken) - set(sample(sampler()).tokens)) > 20


def test_batches_are_forgotten_exactly() -> None:
    batches = [[f"word{n} again and again", TEXTS[n % 3], "the" * n] for n in range(7)]
    made = TokenizerSampler(400, batches=3, noise=1e-3)
    for number, batch in enumerate(batches):
        made.push(batch)
        fresh = TokenizerSampler(400, batches=3, noise=1e-3)
        for kept in batches[max(number - 2, 0) : number + 1]:
            fresh.push(kept)
        assert made._words == fresh._words
        assert sample(made).backend.to_str() == sample(fresh).backend.to_str()


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("text", [*TEXTS, "", " ", "日本語\u200d\r\n\t\x00", EVERY])
def test_any_text_comes_back(text: str, noise: float) -> None:
    made = sample(sampler(noise=noise))
    encoding = made.backend.encode(text)
    assert b"".join(made.tokens[n] for n in encoding.ids) == text.encode()
    assert made.backend.decode(encoding.ids) == text


def test_tokens_stay_within_words() -> None:
    tokens = [bytes([byte]) for byte in range(256)] + [b"a b", b"ab", b" b"]
    made = unigram(tokens, [-9.0] * 256 + [-0.1, -1.0, -1.0])
    assert [tokens[n] for n in made.encode("ab b").ids] == [b"ab", b" b"]
    assert [tokens[n] for n in made.encode("a b").ids] == [b"a", b" b"]


def test_the_most_probable_cut_is_taken() -> None:
    tokens = [bytes([byte]) for byte in range(256)] + [b"ab", b"bc", b"abcd"]
    made = unigram(tokens, [-5.0] * 256 + [-1.0, -2.0, -20.0])
    assert [tokens[n] for n in made.encode("abcd").ids] == [b"ab", b"c", b"d"]
