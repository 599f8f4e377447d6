import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from tokswap.errors import EvaluationError
from tokswap.evaluation import texts
from tokswap.evaluation.texts import Text, dataset_text, file_text


def documents(text: Text) -> list[str]:
    return ["".join(document) for document in text.open()]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what datasets remembers of a folder inside the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return


def folder(path: Path, **splits: list[dict[str, Any]]) -> str:
    path.mkdir()
    for split, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(path)


def test_a_file_keeps_its_bytes_and_can_be_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "CHUNK", 3)
    content = "one\r\ntwo\rthree\n\ufeff naïve 😀".encode()
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    text = file_text(path)
    for _ in range(2):
        chunks = [chunk for document in text.open() for chunk in document]
        assert all(len(chunk) == 3 for chunk in chunks[:-1])
        assert "".join(chunks).encode() == content
    assert (text.name, text.size) == ("some.txt", len(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "some.txt is empty; give a file that holds some text"),
        (b"caf\xe9 au lait", r"some.txt is not UTF-8: .* \(0xe9\); convert it to UTF-8"),
        (None, "some.txt cannot be read: No such file.*; give the path of a text file"),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "some.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        file_text(path)


def test_a_fault_at_the_end_shows_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(texts, "CHUNK", 100)
    path = tmp_path / "some.txt"
    path.write_bytes(b"a" * 100_000 + b"\xff")
    with pytest.raises(EvaluationError, match="not UTF-8"):
        file_text(path)


def test_a_folder_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [{"text": None, "other": "x"}, {"text": "one"}, {"text": ""}, {"text": "zwei ü"}]
    source = folder(tmp_path / "corpus", train=[{"text": "not this", "other": "y"}], test=rows)
    text = dataset_text(source)
    assert text.name == "corpus (test)"
    assert documents(text) == documents(text) == ["one", "zwei ü"]


@pytest.mark.parametrize(
    ("present", "spec", "taken"),
    [
        (("train", "validation"), "", "validation"),
        (("train",), "", "train"),
        (("train", "test"), "::train", "train"),
        (("train", "test"), ":default:train", "train"),
    ],
)
def test_the_split_is_chosen_and_named(
    tmp_path: Path, present: tuple[str, ...], spec: str, taken: str
) -> None:
    source = folder(tmp_path / "corpus", **{name: [{"text": name}] for name in present})
    text = dataset_text(source + spec)
    assert documents(text) == [taken]
    assert text.name == f"corpus{':default' if 'default' in spec else ''} ({taken})"


@pytest.mark.parametrize(
    ("row", "taken"),
    [
        ({"content": "b", "title": "a"}, "b"),
        ({"number": 1, "story": "c"}, "c"),
        ({"content": "b", "text": "t"}, "t"),
        ({"text": 3, "story": "c"}, "c"),
    ],
)
def test_the_column_is_found(tmp_path: Path, row: dict[str, Any], taken: str) -> None:
    assert documents(dataset_text(folder(tmp_path / "corpus", test=[row]))) == [taken]


def test_the_column_is_found_where_only_rows_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = datasets.IterableDataset.from_generator(lambda: iter([{"n": 1, "story": "c"}]))
    assert rows.features is None
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: {"test": rows})
    assert documents(dataset_text("some/thing")) == ["c"]


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (6, 1), (7, 2), (12, 2), (99, 3)])
def test_whole_documents_are_read_up_to_a_limit(tmp_path: Path, limit: int, count: int) -> None:
    rows = [{"text": "zwölf"}] * 3  # six bytes each
    text = dataset_text(folder(tmp_path / "corpus", test=rows), max_bytes=limit)
    assert documents(text) == ["zwölf"] * count


def test_columns_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    source = folder(tmp_path / "corpus", test=[{"question": "a", "answer": "b", "n": 1}])
    with pytest.raises(EvaluationError, match=r"columns question, answer, n, .*rename the right"):
        dataset_text(source)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "corpus", train=[{"text": "a"}])
    with pytest.raises(EvaluationError, match="has no split 'tset', only train; name one"):
        dataset_text(f"{source}::tset")


@pytest.mark.parametrize("spec", ["", ":x", "a:b:c:d"])
def test_a_malformed_name_is_refused(spec: str) -> None:
    with pytest.raises(EvaluationError, match=r"not of the form ID\[:CONFIG\[:SPLIT\]\]; write"):
        dataset_text(spec)


def test_what_cannot_be_opened_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        EvaluationError, match=r"cannot be opened: .*; check the spelling"
    ) as caught:
        dataset_text(f"{tmp_path}/nosuch")
    assert "\n" not in str(caught.value)

    def unreachable(*args: Any, **kwargs: Any) -> None:
        assert not datasets.is_progress_bar_enabled()
        raise ConnectionError("Couldn't reach 'some/thing' on the Hub\nat all")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = "'some/thing' cannot be opened: Couldn't reach 'some/thing' on the Hub at all; check"
    with pytest.raises(EvaluationError, match=message):
        dataset_text("some/thing")
    assert datasets.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_a_broken_row_is_reported(tmp_path: Path) -> None:
    source = folder(tmp_path / "corpus", test=[{"text": "a"}] * 3)
    text = dataset_text(source)
    path = tmp_path / "corpus/test.jsonl"
    path.write_text('{"text": "a"}\n{"te', encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"cannot be read on: .*check the network and the"):
        documents(text)
