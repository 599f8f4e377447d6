"""How often new tokens fire: planted counts, places and reasons."""

import json
from ast import literal_eval
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokswap.checkpoint.edited import EditedFiles
from tokswap.checkpoint.files import open_files, tokenizer_files
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import VocabularyError
from tokswap.evaluation.texts import Text
from tokswap.firing import Firing, Silent, count_firing
from tokswap.names import Location, resolve
from tokswap.vocabulary.extend import extend_vocabulary

Count = Callable[..., Firing]


def text_of(*documents: str) -> Text:
    return Text("planted", lambda: (iter([document]) for document in documents))


@pytest.fixture
def count() -> Count:
    """Count tokens that are added to a bundled tokenizer on planted documents."""

    def work(model: str, tokens: list[str], *documents: str, **settings: Any) -> Firing:
        files = open_files(resolve(model))
        old = Checkpoint(files).vocabulary
        found = extend_vocabulary(old, tokenizer_files(files), tokens, **settings)
        new = Checkpoint(EditedFiles(files, found.contents)).vocabulary
        return count_firing(old, new, found, [text_of(*documents)])

    return work


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-mistral"])
def test_planted_tokens_are_counted(model: str, count: Count) -> None:
    last = "One zymurgy — ßü"
    first = "A hypernetwork, the hypernetwork.\nNo hypernetworks here; zymurgy" + " zymurgy" * 3
    found = count(model, [" hypernetwork", " zymurgy", " nowhere"], first, last)
    assert found.counts == {" hypernetwork": 3, " zymurgy": 5, " nowhere": 0}
    assert found.fire == 2
    assert found.silent == {" nowhere": Silent(0)}
    assert found.bytes == len((first + last).encode())
    assert found.after < found.before
    assert found.texts == ("planted",)
    said = found.to_dict()
    assert said["tokens_per_byte"] == {
        "before": found.before / found.bytes,
        "after": found.after / found.bytes,
    }


def test_places_without_a_token_that_was_asked_for_are_told(count: Count) -> None:
    # The first is made by way of `transpla` and its like, which stand in the second text too.
    with_it = count("tiny-llama", [" transplant"], "to transplant it")
    assert (with_it.changed, with_it.elsewhere, with_it.intermediates) == (1, 0, 0)
    without = count("tiny-llama", [" transplant"], "it transplants, transpla, ransplant")
    assert without.counts == {" transplant": 1}
    assert without.elsewhere == without.intermediates == without.changed - 1 > 0
    untouched = count("tiny-llama", [" transplant"], "nothing of the sort")
    assert (untouched.changed, untouched.elsewhere) == (0, 0)
    assert untouched.before == untouched.after


@pytest.mark.parametrize(
    ("model", "before"),
    [("tiny-llama", " "), ("tiny-mistral", "(")],  # the latter begins texts with a dummy space
)
def test_the_cut_that_wins_is_shown(model: str, before: str, count: Count) -> None:
    found = count(model, ["hypernet"], f"zz\nsome{before}hypernetworks")
    said = found.silent["hypernet"]
    assert said.occurs == 1
    assert len(said.cut) > 1
    assert "".join(map(literal_eval, said.cut)).startswith(f"{before.strip('(')}hypernet")


def test_added_tokens_are_counted_in_raw_text(count: Count) -> None:
    found = count("tiny-llama", ["New York", "ork C"], "New York City, New Yorkers", how="added")
    assert found.counts == {"New York": 2, "ork C": 0}
    assert found.silent["ork C"].occurs == 1
    assert found.elsewhere == 0


def test_tokens_that_would_take_long_to_look_for_are_not(
    count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.firing.SEARCHED", 25)
    found = count("tiny-llama", [" nowhere", " nobody"], "twenty characters...")
    assert found.silent == {" nowhere": Silent(0), " nobody": Silent(None)}


def test_text_that_does_not_come_back_is_a_fault() -> None:
    files = open_files(resolve("tiny-llama"))
    old = Checkpoint(files).vocabulary
    found = extend_vocabulary(old, tokenizer_files(files), [" zymurgy"])
    new = Checkpoint(EditedFiles(files, found.contents)).vocabulary
    count_firing(old, new, found, [text_of("x zymurgy")])
    spelling = tuple(b" zymurgie" if data == b" zymurgy" else data for data in new.spelling)
    with pytest.raises(VocabularyError, match="planted does not come back from the tokens"):
        count_firing(old, replace(new, spelling=spelling), found, [text_of("x zymurgy")])


def test_text_that_was_unknown_is_no_fault(tmp_path: Path) -> None:
    tokens = ["[UNK]", "ab", "##c", "c"]
    unknown = {"unk_token": "[UNK]"}
    words = Tokenizer(models.WordPiece({token: n for n, token in enumerate(tokens)}, **unknown))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    (tmp_path / "tokenizer.json").write_text(words.to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(unknown))
    files = open_files(Location("words", "folder", str(tmp_path)))
    old = Checkpoint(files).vocabulary
    found = extend_vocabulary(old, tokenizer_files(files), [" ab☃", " cc"])
    new = Checkpoint(EditedFiles(files, found.contents)).vocabulary
    counted = count_firing(old, new, found, [text_of("ab☃ abc", "cc")])
    assert counted.counts == {" ab☃": 1, " cc": 1}
    assert (counted.changed, counted.elsewhere) == (None, None)
    counted = count_firing(old, new, found, [text_of("abc", "abc cc")])
    assert (counted.changed, counted.elsewhere) == (1, 0)
