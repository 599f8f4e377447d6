"""Word vectors from files: what fastText writes is read, and what could run code is not."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokswap.errors import MethodError
from tokswap.static_vectors import of_model, quiet
from tokswap.vector_files import read_vectors

WORDS = [["the", "dog", "eats", "the", "bone"], ["the", "cat", "eats", "the", "fish"]] * 20


@pytest.mark.parametrize("header", ["", "3 2\n"], ids=["glove", "fasttext"])
def test_text_is_read_with_and_without_sizes(header: str, tmp_path: Path) -> None:
    path = tmp_path / "words.vec"
    path.write_text(f"{header}the 1 2 \n\xa0x -3e-1 4\nthe 9 9\n", encoding="utf-8")
    found = read_vectors(path, method="wechsel")
    assert dict(found.places) == {"the": 0, "\xa0x": 1}
    np.testing.assert_array_equal(found.rows, np.array([[1, 2], [-0.3, 4]], dtype=np.float32))
    assert found.counts.tolist() == [1.0, 0.5]
    assert found.compose is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "finds no vectors in"),
        (b"2 3\n", "finds no vectors in"),
        (b"word 1 2\nother 1\n", "line 2 is not a word and 2 numbers"),
        (b"word 1 2\nother 1 x\n", "line 2 is not a word and 2 numbers"),
        (b"1 2\nword 1 nan\n", "line 2 is not a word and 2 numbers"),
        (b"hello\n", "line 1 is not a word and some numbers"),
        (b"\x80\x04\x95 a pickle", "looks like a pickle and could run code"),
        (struct.pack("<i", 793712314) + b"short", "cut off"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "words.vec"
    path.write_bytes(content)
    with pytest.raises(MethodError, match=f"^wechsel .*{said}.*give a .vec file"):
        read_vectors(path, method="wechsel")


def test_gensims_own_format_is_refused_by_its_name_too(tmp_path: Path) -> None:
    path = tmp_path / "words.kv"
    path.write_text("the 1 2\n")
    with pytest.raises(MethodError, match="looks like a pickle"):
        read_vectors(path, method="wechsel")
    with pytest.raises(MethodError, match="No such file"):
        read_vectors(tmp_path / "missing.vec", method="wechsel")


@pytest.fixture(scope="module")
def model() -> Any:
    from gensim.models.fasttext import FastText

    with quiet():
        return FastText(WORDS, vector_size=8, min_count=5, bucket=80, workers=1, seed=0)


@pytest.fixture(scope="module")
def binary(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as fastText itself would write it, written by gensim."""
    from gensim.models.fasttext import save_facebook_model

    path = tmp_path_factory.mktemp("fasttext") / "model.bin"
    save_facebook_model(model, str(path))
    return path


def test_fasttexts_binary_is_read_with_its_n_grams(model: Any, binary: Path) -> None:
    found = read_vectors(binary, method="wechsel")
    wanted = of_model(model.wv)
    assert set(found.places) == set(wanted.places) == {w for words in WORDS for w in words}
    words = ["dog", "dogs", "the", None]
    for mine, said in zip(found.composed(words), wanted.composed(words), strict=True):
        np.testing.assert_allclose(mine, said, atol=1e-6)
    assert found.counts[found.places["the"]] == 80


@pytest.mark.parametrize("kept", [70, 100, 200, -1])
def test_a_binary_that_is_cut_off_is_refused(kept: int, binary: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(binary.read_bytes()[:kept])
    if kept == -1:  # the output's matrix is not read
        path.write_bytes(path.read_bytes()[: -8 * 4 * 6 - 100])
    with pytest.raises(MethodError, match=r"cannot read .*cut.bin, a fastText file that is cut"):
        read_vectors(path, method="wechsel")
