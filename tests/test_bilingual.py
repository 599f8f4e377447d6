"""Two languages' vectors in one space, and tokens' vectors from those of words."""

from pathlib import Path

import numpy as np
import pytest

from tests.methods.conftest import tiny_vocabulary  # noqa: F401 - a fixture
from tokswap.bilingual import (
    align_vectors,
    known_pairs,
    read_dictionary,
    token_vectors,
    words_of,
)
from tokswap.errors import MethodError
from tokswap.static_vectors import StaticVectors

WIDTH = 5
ENGLISH = ["the", "dog", "cat", "house", "tree", "sea", "sun", "Moon"]
GERMAN = ["das", "Hund", "Katze", "Haus", "Baum", "Meer", "Sonne", "Mond"]


def vectors(words: list[str], rows: np.ndarray) -> StaticVectors:
    places = {word: place for place, word in enumerate(words)}
    return StaticVectors(places, rows.astype(np.float32), 1.0 / np.arange(1, len(words) + 1))


@pytest.fixture
def languages() -> tuple[StaticVectors, StaticVectors]:
    """German is English turned, and each vector has a length of its own."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(len(ENGLISH), WIDTH))
    rotation = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    lengths = random.uniform(0.5, 2, size=(len(ENGLISH), 1))
    return vectors(ENGLISH, rows), vectors(GERMAN, lengths * rows @ rotation)


def test_a_rotation_is_found_by_its_pairs(languages: tuple[StaticVectors, StaticVectors]) -> None:
    import torch

    english, german = languages
    dictionary = list(zip(ENGLISH, GERMAN, strict=True))[:6]
    pairs = known_pairs(english, german, dictionary, method="wechsel")
    assert pairs.tolist() == [[n, n] for n in range(6)]
    turned = align_vectors(english, german, pairs).apply(torch.from_numpy(german.rows))
    unit = torch.nn.functional.normalize
    wanted = unit(torch.from_numpy(english.rows))
    torch.testing.assert_close(unit(turned), wanted, rtol=0, atol=1e-5)


def test_words_count_in_lower_case_and_with_a_capital(
    languages: tuple[StaticVectors, StaticVectors],
) -> None:
    dictionary = [(a.upper(), b.upper()) for a, b in zip(ENGLISH, GERMAN, strict=True)]
    english, german = (
        vectors([word.lower() for word in side.places], side.rows) for side in languages
    )
    assert len(known_pairs(english, german, dictionary, method="wechsel")) == len(ENGLISH)


def test_equal_words_are_pairs_where_there_is_no_dictionary(
    languages: tuple[StaticVectors, StaticVectors],
) -> None:
    english = languages[0]
    same = vectors(ENGLISH[::-1], english.rows)
    pairs = known_pairs(english, same, None, method="wechsel")
    assert pairs.tolist() == [[n, len(ENGLISH) - 1 - n] for n in range(len(ENGLISH))]


@pytest.mark.parametrize(
    ("dictionary", "said"),
    [
        (
            [("Hund", "dog"), ("Haus", "house")],
            "the dictionary has 0 pairs of words with vectors; give a larger",
        ),
        (
            [("dog", "Hund"), ("cat", "Katze")],
            "the dictionary has 2 pairs of words with vectors; give a larger",
        ),
        (None, "both languages have vectors of 0 equal words; give a dictionary, or"),
    ],
)
def test_too_few_pairs_are_refused(
    dictionary: list[tuple[str, str]] | None,
    said: str,
    languages: tuple[StaticVectors, StaticVectors],
) -> None:
    with pytest.raises(MethodError, match=said):
        known_pairs(*languages, dictionary, method="wechsel")


def test_a_dictionary_has_two_words_a_line(tmp_path: Path) -> None:
    path = tmp_path / "dictionary.txt"
    path.write_text("dog Hund\n\nice cream\tdas Eis\r\n", encoding="utf-8")
    found = read_dictionary(path, method="wechsel")
    assert found == [("dog", "Hund"), ("ice cream", "das Eis")]
    path.write_text("dog Hund\ncat\n", encoding="utf-8")
    with pytest.raises(MethodError, match=r"cannot read line 2 of the dictionary .*; give on each"):
        read_dictionary(path, method="wechsel")
    path.write_bytes(b"\xff")
    with pytest.raises(MethodError, match=r"wechsel cannot read its dictionary: .* is not UTF-8"):
        read_dictionary(path, method="wechsel")


def test_a_token_is_the_weighted_mean_of_the_words_it_is_in(tiny_vocabulary) -> None:  # noqa: F811
    words = vectors(["ab", "c", "bb"], np.eye(3))
    vocabulary = tiny_vocabulary("letters", ["a", "b", "c", "d", "ab"], ("a", "b"))
    rows, known = token_vectors(words, vocabulary, [4, 2, 1, 3, 0])
    assert known.tolist() == [True, True, True, False, False]  # "a" is never cut off
    np.testing.assert_allclose(rows[:3], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    split = tiny_vocabulary("single", ["a", "b", "c", "d"])
    rows, known = token_vectors(words, split, [0, 1])
    np.testing.assert_allclose(rows, [[1, 0, 0], [1 / (1 + 2 / 3), 0, 2 / 3 / (1 + 2 / 3)]], 1e-6)


def test_words_are_runs_of_letters_or_of_signs() -> None:
    assert words_of(["Hé, it's x1!= 2\n"]) == [["Hé", ",", "it", "'", "s", "x1", "!=", "2"]]
