"""What methods learn from, and what they say where there is nothing."""

import hashlib
from pathlib import Path

import pytest

from tokswap import progress
from tokswap.bundled.train.corpus import is_held_out, prose, read_corpus, training_prose
from tokswap.errors import MethodError
from tokswap.training_text import DOCUMENT, documentation_hash, training_documents

LINES = "".join(f"Line {number} – of « text », with\ttabs.\r\n\n" for number in range(5000))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "_shown", True)
    return lambda: capsys.readouterr().err


def test_files_are_read_whole_and_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(LINES.encode())
    second.write_bytes(b"no line end")
    found = training_documents([str(first), str(second)], method="focus")
    assert "".join(found) == LINES + "no line end"
    assert found[-1] == "no line end"
    assert all(DOCUMENT <= len(text) <= DOCUMENT + 60 for text in found[:-2])


def test_without_files_the_documentation_stands_in_and_says_so(notes) -> None:
    found = training_documents([], method="focus")
    assert sum(map(len, found)) > 1 << 20
    assert all(text.strip() for text in found)
    assert "documentation of Python's library" in (said := notes())
    hashed = hashlib.sha256(b"".join(text.encode() + b"\0" for text in found)).hexdigest()
    assert documentation_hash() == f"sha256:{hashed}"
    assert "--set method.text=FILE" in said


def test_the_documentation_is_that_of_the_files_that_are_not_held_out(tmp_path: Path) -> None:
    names = [f"part{number}.py" for number in range(60)]
    assert any(map(is_held_out, names))
    for name in names:
        words = f'"""On {name}."""\n\ndef f():\n    """  Does\n    it. {"x" * 200}"""\n'
        (tmp_path / name).write_text(words, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def", encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    (tmp_path / "pydoc_data").mkdir()
    topics = "topics = {'b': 'second', 'a': 'first'}"
    (tmp_path / "pydoc_data" / "topics.py").write_text(topics, encoding="utf-8")
    found = list(training_prose(tmp_path))
    assert found == list(prose(read_corpus(tmp_path).train))
    assert "first\n\nsecond" in found
    trained = sum(not is_held_out(name) for name in names)
    assert len(found) == 2 * trained + 1


def test_a_long_text_is_cut_and_that_is_told(tmp_path: Path, notes) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(LINES.encode())
    found = training_documents([str(path)], method="focus", max_bytes=3 * DOCUMENT)
    assert LINES.startswith("".join(found))
    assert 0 < sum(len(text.encode()) for text in found) <= 3 * DOCUMENT
    assert (
        notes().strip() == "focus learns from the first 0.0469 MiB of its text and leaves out "
        "the rest"
    )


@pytest.mark.parametrize("content", [b"", b" \n\n\t"], ids=["empty", "blank"])
def test_a_text_without_words_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nothing.txt"
    path.write_bytes(content)
    with pytest.raises(
        MethodError, match=r"focus cannot learn from .*nothing.txt, which is empty; "
    ):
        training_documents([str(path)], method="focus")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(MethodError, match=r"focus cannot read its text: .* is not UTF-8"):
        training_documents([str(path)], method="focus")
    with pytest.raises(MethodError, match=r"cannot be read: No such file"):
        training_documents([str(path) + "x"], method="focus")
    with pytest.raises(MethodError, match=r"cannot be read: Is a directory"):
        training_documents([str(tmp_path)], method="focus")
