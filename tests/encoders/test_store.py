"""Vectors that are kept: what is there is read, what is not is computed, nothing is mixed up."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from tokswap import progress
from tokswap.encoders import Encoder, embed, open_encoder, vectors_folder
from tokswap.encoders.store import HEADER, VectorStore

WORDS = [" dog", " cat", " dog", "", "ing", " tax", " cat"]


@pytest.fixture
def small(small_bert: Path) -> Encoder:
    return open_encoder(str(small_bert), pooling="mean")


def kept(folder: Path) -> Path:
    (path,) = folder.glob("*.vectors")
    return path


def record(encoder: Encoder) -> int:
    return 16 + 4 * encoder.width + 4


def test_what_is_kept_is_not_computed_again(
    minilm: Encoder, tmp_path: Path, runs: list[str]
) -> None:
    first = embed(minilm, WORDS, folder=tmp_path)
    assert sorted(runs) == sorted(set(WORDS))
    torch.testing.assert_close(first, minilm.encode(WORDS), rtol=0, atol=2e-6)
    assert kept(tmp_path).name.startswith("all-MiniLM-L6-v2-")

    runs.clear()
    another = open_encoder()
    again = embed(another, WORDS[::-1], folder=tmp_path)
    assert torch.equal(again, first.flip(0))
    assert runs == []
    assert "_loaded" not in vars(another)  # the weights were not read
    more = embed(minilm, [" horse", *WORDS], folder=tmp_path)
    assert runs == [" horse"]
    assert torch.equal(more[1:], first)


def test_two_encoders_do_not_mix(small_bert: Path, tmp_path: Path, runs: list[str]) -> None:
    kinds = [{"pooling": "mean"}, {"pooling": "cls"}, {"pooling": "mean", "prefix": "q"}]
    encoders = [open_encoder(str(small_bert), **kind) for kind in kinds]
    found = [embed(encoder, ["abc", "de"], folder=tmp_path) for encoder in encoders]
    assert len(list(tmp_path.glob("*.vectors"))) == 3
    for encoder, vectors in zip(encoders, found, strict=True):
        torch.testing.assert_close(vectors, encoder.encode(["abc", "de"]))
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


CHILD = """
import sys, torch
from pathlib import Path
from tokswap.encoders import embed, open_encoder
torch.set_num_threads(1)
encoder = open_encoder(sys.argv[1], pooling="mean", batch_size=2)
embed(encoder, [f"{i:b}".replace("0", "a").replace("1", "b") for i in range(50_000)],
      folder=Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_where_it_stood(
    small: Encoder, small_bert: Path, tmp_path: Path, runs: list[str]
) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(small_bert), str(tmp_path)])
    try:
        deadline = time.monotonic() + 120
        while not any(p.stat().st_size > 20_000 for p in tmp_path.glob("*.vectors")):
            assert child.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        child.kill()
        child.wait()
    whole = (kept(tmp_path).stat().st_size - HEADER.size) // record(small)
    assert 200 < whole < 50_000
    # Children compute in order of length, so what it did are the first ones.
    texts = [f"{i:b}".replace("0", "a").replace("1", "b") for i in range(whole + 100)]
    vectors = embed(small, texts, folder=tmp_path)
    assert 0 < len(runs) <= 100 + 32  # the last length may be done in part, in another order
    torch.testing.assert_close(vectors, small.encode(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lost", [1, 20, 83])
def test_a_torn_record_is_cut_off(
    small: Encoder, tmp_path: Path, runs: list[str], lost: int
) -> None:
    texts = ["a", "b", "c"]
    first = embed(small, texts, folder=tmp_path)
    size = kept(tmp_path).stat().st_size
    with kept(tmp_path).open("r+b") as file:
        file.truncate(size - lost)
    runs.clear()
    more = embed(small, [*texts, "d"], folder=tmp_path)
    torch.testing.assert_close(more[:3], first)
    assert sorted(runs) == ["c", "d"]
    assert kept(tmp_path).stat().st_size == size + record(small)
    assert torch.equal(embed(small, texts, folder=tmp_path), more[:3])
    assert sorted(runs) == ["c", "d"]


@pytest.mark.parametrize("place", ["vector", "header", "digest", "format"])
def test_damage_is_seen_and_mended(
    small: Encoder, tmp_path: Path, runs: list[str], place: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    texts = ["a", "b", "c"]
    first = embed(small, texts, folder=tmp_path)
    offset = HEADER.size + record(small)  # the second record
    at = {"vector": offset + 30, "header": 3, "digest": offset + 2, "format": 8}[place]
    data = bytearray(kept(tmp_path).read_bytes())
    data[at] ^= 255
    kept(tmp_path).write_bytes(data)
    runs.clear()
    progress.show()
    try:
        mended = embed(small, texts, folder=tmp_path)
        torch.testing.assert_close(mended, first)  # a batch of another size rounds otherwise
        lines = capsys.readouterr().err
        lost = texts if place in {"header", "format"} else ["b"]
        assert sorted(runs) == lost
        assert ("damaged" in lines) == (place != "digest")  # that one is merely not found
        assert torch.equal(embed(small, texts, folder=tmp_path), mended)
        assert sorted(runs) == lost  # mended for good
        assert "damaged" not in capsys.readouterr().err
    finally:
        progress.show(False)


def test_a_folder_that_cannot_be_written_costs_only_time(
    small: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    progress.show()
    try:
        vectors = embed(small, ["a", "b"], folder=tmp_path / "file")
    finally:
        progress.show(False)
    torch.testing.assert_close(vectors, small.encode(["a", "b"]))
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    writers, blocks, size = 6, 10, 200  # 800 kB a block: long enough to be seen half-written

    def names(writer: int, number: int) -> list[str]:
        return [f"{writer}-{number}-{i}" for i in range(size)]

    def write(writer: int) -> None:
        store = VectorStore(tmp_path, "encoder", "k" * 64)
        for number in range(blocks):
            value = torch.full((size, 1000), float(100 * writer + number))
            store.append(names(writer, number), value)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in range(writers):
        for number in range(blocks):
            store = VectorStore(tmp_path, "encoder", "k" * 64)
            found, vectors = store.read(names(writer, number)[:: size - 1])
            assert all(found)
            assert vectors is not None
            assert (vectors == 100 * writer + number).all()


def test_where_vectors_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKSWAP_CACHE", str(tmp_path / "mine"))
    assert vectors_folder() == tmp_path / "mine" / "vectors"
    monkeypatch.delenv("TOKSWAP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert vectors_folder() == tmp_path / "tokswap" / "vectors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert vectors_folder() == Path("~/.cache/tokswap/vectors").expanduser()


def test_no_texts_give_no_rows(small: Encoder, tmp_path: Path) -> None:
    assert embed(small, [], folder=tmp_path).shape == (0, small.width)
