"""fastText vectors trained on words: which words are alike, and the same vectors each time."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tokswap.errors import MethodError
from tokswap.static_vectors import SENTENCE, StaticVectors, Training, train

QUICK = Training(dimension=16, epochs=8, minimum_count=3)
CODE = """
import hashlib
from tests.test_static_vectors import QUICK, planted
from tokswap.static_vectors import train
found = train(planted(), QUICK, method="focus", label="vectors")
print(hashlib.sha256(found.rows.tobytes()).hexdigest())
"""


def planted() -> list[list[str]]:
    """Two kinds of sentences; within a kind, any word may stand for any other."""
    random = np.random.default_rng(0)
    animals, tools = ["hound", "kitten", "mare"], ["spanner", "pliers", "axe"]
    around = [["the", "furry", "eats", "grass"], ["a", "steel", "bends", "wire"]]
    sentences = []
    for kind in random.integers(0, 2, 1500):
        noun = (animals, tools)[kind][random.integers(0, 3)]
        sentences.append(list(random.permutation([*around[kind], noun])))
    return [[str(word) for word in sentence] for sentence in sentences] + [["once"]]


@pytest.fixture(scope="module")
def vectors() -> StaticVectors:
    return train(planted(), QUICK, method="focus", label="vectors")


def cosine(vectors: StaticVectors, first: str, second: str) -> float:
    one, other = vectors.composed([first, second])[0]
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_words_that_are_used_alike_are_near(vectors: StaticVectors) -> None:
    for word, near, far in (("hound", "mare", "pliers"), ("axe", "spanner", "kitten")):
        assert 3 * (1 - cosine(vectors, word, near)) < 1 - cosine(vectors, word, far)


def test_rare_words_have_a_vector_only_by_their_n_grams(vectors: StaticVectors) -> None:
    words = ["hound", "once", None, "", "hounds"]
    rows, known = vectors.look_up(words)
    assert known.tolist() == [True, False, False, False, False]
    assert not rows[1:].any()
    rows, known = vectors.composed(words)
    assert known.tolist() == [True, True, False, False, True]
    assert rows[1].any()
    assert cosine(vectors, "hounds", "hound") > 0.5
    assert vectors.counts[vectors.places["hound"]] == sum(s.count("hound") for s in planted())


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_trains_the_same_vectors(vectors: StaticVectors, seed: str) -> None:
    import hashlib

    environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed}
    ran = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.strip() == hashlib.sha256(vectors.rows.tobytes()).hexdigest()
    assert not ran.stderr


def test_the_seed_and_the_words_decide(vectors: StaticVectors) -> None:
    again = train(planted(), QUICK, method="focus", label="vectors")
    assert again is vectors  # not trained twice
    other = train(planted(), Training(**{**vars(QUICK), "seed": 5}), method="focus", label="")
    assert not np.array_equal(other.rows, vectors.rows)
    other = train(planted()[:-5], QUICK, method="focus", label="vectors")
    assert not np.array_equal(other.rows, vectors.rows)


def test_long_texts_are_trained_on_whole() -> None:
    """gensim leaves out what is behind the 10,000th word of a sentence."""
    words = ["much"] * 3 + ["word", "other"] * 6_000
    long = train([words], QUICK, method="focus", label="")
    parts = [words[start : start + SENTENCE] for start in range(0, len(words), SENTENCE)]
    assert long.counts[long.places["word"]] == 6_000
    assert np.array_equal(long.rows, train(parts, QUICK, method="focus", label="").rows)


def test_a_text_in_which_nothing_occurs_often_is_refused() -> None:
    said = r"in which none of 3 words occurs 3 times; give a longer one with method.base_text"
    with pytest.raises(MethodError, match=said):
        train([["a", "b", "c"]], QUICK, method="focus", label="vectors", key="base_text")
