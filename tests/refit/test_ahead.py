"""What is said of a refit before anything slow, against what it then reads."""

import json
from pathlib import Path

import datasets
import pytest

from tests.refit.made import Bench
from tokswap.errors import EvaluationError, RefitError
from tokswap.refit.ahead import OWN, look_ahead, written_for
from tokswap.refit.asked import RefitPart
from tokswap.refit.store import state_bytes

COMMON = "the and of the in to " * 1_000
"""Text in which no new token stands."""


def test_what_is_told_is_what_is_then_read(untied: Bench, text: Path, tmp_path: Path) -> None:
    context = untied.context(tmp_path, text=[str(text)])
    said = look_ahead(untied.pair, context.asked)
    assert said.text == ("prose.txt",)
    assert said.tokens == context.cut.tokens
    assert said.missing == len(untied.pair.alignment.missing)
    assert said.seen == len(context.free)
    assert said.times == context.times
    assert said.bytes == state_bytes(said.tokens + context.times, 144)


def test_what_the_base_writes_is_counted(untied: Bench, text: Path) -> None:
    both = look_ahead(untied.pair, RefitPart(text=[str(text)], window=64, tokens=4_000))
    assert both.text == ("prose.txt", OWN)
    assert 8_000 <= both.tokens < 8_400
    alone = look_ahead(untied.pair, RefitPart(written=3_000, output=False))
    assert (alone.text, alone.tokens, alone.seen, alone.bytes) == ((OWN,), 3_000, None, 0)
    streamed = look_ahead(untied.pair, RefitPart(datasets=["some/set"], tokens=900))
    assert (streamed.text, streamed.tokens) == (("some/set", OWN), 1_800)
    assert streamed.times is None
    said = {900: 900, 15_000: 15_000, 30_000: 15_000, 45_000: 15_000, 150_000: 50_000}
    assert {size: written_for(RefitPart(text=["a"]), size) for size in said} == said
    assert written_for(RefitPart(text=["a"], written=0), 900) == 0


def test_text_without_new_tokens_is_refused_before_anything_slow(
    untied: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "common.txt"
    path.write_text(COMMON)
    said = (
        r"^common\.txt holds 0 of the \d,\d{3} new tokens, 0 times in \d+,\d{3} tokens, and a "
        "refit needs 20 times at least; give more text"
    )
    asked = RefitPart(text=[str(path)], window=64, tokens=6_000, written=0)
    with pytest.raises(RefitError, match=said):
        look_ahead(untied.pair, asked)
    with pytest.raises(RefitError, match=said):
        _ = untied.context(tmp_path, text=[str(path)]).free


def test_rows_of_a_dataset_are_read_as_the_same_text_in_files(
    untied: Bench, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    row = json.dumps({"text": text.read_text(encoding="utf-8")}) + "\n"
    (folder / "train.jsonl").write_text(row, encoding="utf-8")
    (folder / "test.jsonl").write_text(json.dumps({"text": COMMON}) + "\n")  # to measure on
    streamed = untied.context(tmp_path / "one", datasets=[str(folder)])
    read = untied.context(tmp_path / "other", text=[str(text)])
    assert streamed.cut == read.cut
    assert streamed.free.tolist() == read.free.tolist()
    assert streamed.names == ["corpus (train)"]
    test = untied.context(tmp_path / "test", datasets=[f"{folder}::test"])
    with pytest.raises(RefitError, match="holds 0 of the"):
        _ = test.free


def test_a_missing_file_is_told_at_once(untied: Bench) -> None:
    with pytest.raises(EvaluationError, match=r"^nowhere\.txt cannot be read: No such file"):
        look_ahead(untied.pair, RefitPart(text=["nowhere.txt"]))
