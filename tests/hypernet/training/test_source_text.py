"""Text to train on: the same batches for the same seed, whole characters, exact places to go on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.errors import EvaluationError
from tokswap.hypernet.training.recipe import SourcePart
from tokswap.hypernet.training.source_text import LINE, Source, open_source

ENGLISH = " ".join(f"word{n} of line {n // 9}\n" for n in range(900))
JAPANESE = "".join(chr(0x4E00 + n) + chr(0x1F600 + n % 60) for n in range(3000))

Write = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*texts: str | bytes) -> list[str]:
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"text-{number}.txt"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            paths.append(str(path))
        return paths

    return write


def spans(paths: list[str], *seed: int) -> Source:
    return open_source(SourcePart(text=paths), seed or [0])


def test_a_batch_is_the_same_whatever_was_read_before(write: Write) -> None:
    paths = write(ENGLISH, JAPANESE)
    one, same, other = spans(paths, 7, 2), spans(paths, 7, 2), spans(paths, 8, 2)
    read = [one.batch(4, 100) for _ in range(5)]
    assert len({text for batch in read for text in batch}) > 10
    assert [same.batch(4, 100) for _ in range(5)] == read
    assert other.batch(4, 100) != read[0]
    late = spans(paths, 7, 2)
    late.batch(9, 33)  # of other sizes
    late.restore({"done": 3})
    assert [late.batch(4, 100) for _ in range(2)] == read[3:]


def test_a_place_is_kept_and_restored_as_json(write: Write) -> None:
    paths = write(ENGLISH)
    one = spans(paths)
    for _ in range(3):
        one.batch(2, 50)
    place = json.loads(json.dumps(one.state()))
    then = [one.batch(2, 50) for _ in range(3)]
    other = spans(paths)
    other.restore(place)
    assert [other.batch(2, 50) for _ in range(3)] == then


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE], ids=["spaces", "no spaces"])
@pytest.mark.parametrize("characters", [1, 64, 10**6])
def test_spans_lie_in_the_file_and_break_no_character(
    text: str, characters: int, write: Write
) -> None:
    source = spans(write(text))
    found = [span for _ in range(20) for span in source.batch(10, characters)]
    assert all(span in text for span in found)
    assert all(len(span) <= characters for span in found)
    if characters == 64:
        assert sum(len(span) == characters for span in found) > 180
        assert len(set(found)) > 100
        places = [text.index(span) / len(text) for span in found]
        assert min(places) < 0.1
        assert max(places) > 0.9


def test_spans_begin_with_words(write: Write) -> None:
    found = spans(write(ENGLISH)).batch(200, 64)
    assert all(span[0] in " \n" or ENGLISH.startswith(span) for span in found)


def test_files_are_read_by_their_sizes(write: Write) -> None:
    found = spans(write("a" * 30_000, "b" * 10_000)).batch(400, 20)
    share = sum("a" in span for span in found) / len(found)
    assert 0.65 < share < 0.85


def test_a_file_shorter_than_a_span_is_read_whole(write: Write) -> None:
    assert spans(write("short, but ü")).batch(2, 2048) == ["short, but ü"] * 2


def test_a_word_longer_than_a_line_does_not_hide_the_text(write: Write) -> None:
    text = "x" * (3 * LINE) + " " + "y" * (3 * LINE)
    assert all(spans(write(text)).batch(50, 40))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is empty; give a file that holds some text"),
        ("Grüße".encode("latin-1"), "is not UTF-8: invalid"),
        (b"cut short \xc3", "is not UTF-8: unexpected end"),
        (b"ok " * 100 + b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_files_of_no_use(data: bytes, fault: str, write: Write) -> None:
    with pytest.raises(EvaluationError, match=fault) as caught:
        spans(write(ENGLISH, data))
    assert "text-1.txt" in str(caught.value)


def test_a_character_on_the_border_of_what_is_checked(write: Write) -> None:
    assert spans(write(b"x" * ((1 << 20) - 1) + "é and more".encode())).batch(1, 10)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"cannot be read: .*; give the path of a text file"):
        spans([str(tmp_path / name)])


# Datasets: a local folder of JSON lines, two files of five rows.
ROWS = [f"row {n} " + "abc def " * n for n in range(10)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rows")
    for number in range(2):
        rows: list[Any] = [{"n": 1, "text": text} for text in ROWS[5 * number : 5 * number + 5]]
        rows.insert(2, {"n": 2, "text": " \n"})  # rows without text are passed over
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"train-{number}.jsonl").write_text(lines)
    return str(folder)


def streamed(dataset: str, *seed: int) -> Source:
    return open_source(SourcePart(dataset=dataset), seed or [0])


def test_rows_come_in_order_and_begin_again(dataset: str) -> None:
    source = streamed(dataset)
    found = [text for _ in range(8) for text in source.batch(3, 1000)]
    assert found == (ROWS * 3)[:24]


def test_long_rows_are_cut_by_the_seed(dataset: str) -> None:
    one, same, other = streamed(dataset, 1), streamed(dataset, 1), streamed(dataset, 2)
    found = one.batch(10, 8)
    assert [len(text) for text in found] == [min(len(row), 8) for row in ROWS]
    assert all(text in row for text, row in zip(found, ROWS, strict=True))
    assert same.batch(10, 8) == found
    assert other.batch(10, 8) != found


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4, 5, 9])
def test_a_stream_goes_on_where_it_stood(dataset: str, done: int) -> None:
    """Also behind its end, and as often as it is restored."""
    source = streamed(dataset)
    for _ in range(done):
        source.batch(3, 6)
    place = json.loads(json.dumps(source.state()))
    then = [source.batch(3, 6) for _ in range(9)]
    other = streamed(dataset)
    other.restore(place)
    assert [other.batch(3, 6) for _ in range(4)] == then[:4]
    place = json.loads(json.dumps(other.state()))
    third = streamed(dataset)
    third.restore(place)
    assert json.loads(json.dumps(third.state())) == place
    assert [third.batch(3, 6) for _ in range(5)] == then[4:]
    third.restore(place)
    assert third.batch(3, 6) == then[4]


def test_a_dataset_without_text(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": " "}\n{"text": ""}\n')
    with pytest.raises(EvaluationError, match="holds no text to train on"):
        streamed(str(tmp_path)).batch(1, 10)


def test_a_dataset_that_breaks_off(tmp_path: Path) -> None:
    """A later file is no JSON; what comes before it is read."""
    (tmp_path / "train-0.jsonl").write_text('{"text": "fine"}\n')
    (tmp_path / "train-1.jsonl").write_text('{"text": "fi')
    source = streamed(str(tmp_path))
    assert source.batch(1, 10) == ["fine"]
    with pytest.raises(EvaluationError, match=r"cannot be read on: .*; check the network"):
        source.batch(1, 10)
