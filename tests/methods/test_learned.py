"""What decides the rows of methods that learn from texts and vectors, told for the record."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import tokswap
from tokswap.errors import MethodError
from tokswap.methods import METHODS
from tokswap.methods.by_kind import ByKind
from tokswap.methods.learned import learned_from
from tokswap.methods.mix import Mix
from tokswap.methods.pieces import Pieces
from tokswap.methods.tokenadapt import TokenAdapt
from tokswap.methods.transtokenizer import TransTokenizer
from tokswap.methods.wechsel import Wechsel
from tokswap.plan import PLAN_FILE, Plan

LIBRARY = "documentation of Python's library"


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"one")
    first = TransTokenizer(text=str(text)).sources()
    assert first == {str(text): "sha256:" + hashlib.sha256(b"one").hexdigest()}
    text.write_bytes(b"two")
    assert TransTokenizer(text=str(text)).sources() != first
    text.unlink()
    with pytest.raises(MethodError, match=r"text.txt cannot be read: .*; check its path"):
        learned_from([str(text)], documentation=False)


@pytest.mark.parametrize(
    ("name", "settings", "library"),
    [
        ("focus", {}, True),
        ("focus", {"text": "t"}, False),
        ("transtokenizer", {}, True),
        ("wechsel", {}, True),
        ("wechsel", {"text": "t"}, False),
        ("wechsel", {"base_text": "t"}, True),
        ("wechsel", {"base_vectors": "t"}, True),
        ("wechsel", {"donor_vectors": "t"}, True),
        ("wechsel", {"donor_vectors": "t", "base_text": "t"}, False),
        ("wechsel", {"donor_vectors": "t", "base_vectors": "t"}, False),
    ],
)
def test_pythons_documentation_is_told_where_it_is_read(
    name: str,
    settings: dict[str, Any],
    library: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tokswap.methods.learned.documentation_hash", str)  # takes seconds
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").write_text("text")
    assert (LIBRARY in METHODS[name](**settings).sources()) == library


def test_an_encoder_is_known_by_its_files(small_bert: Path) -> None:
    settings: dict[str, Any] = {"encoder": str(small_bert), "encoder_pooling": "mean"}
    said = TokenAdapt(**settings).sources()
    assert list(said) == [str(small_bert)]
    assert said[str(small_bert)].startswith("sha256:")
    assert Wechsel(**settings).sources() == said
    assert TokenAdapt(encoder="base").sources() == {}


def test_the_plan_and_the_record_have_it(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("def name(self): return self.name\n", encoding="utf-8")
    made = tokswap.transplant(
        base_model="tiny-llama",
        donor="tiny-mistral",
        method="transtokenizer",
        parameters={"text": [str(text)]},
        eval=False,
        plan_only=True,
        out=str(tmp_path / "out"),
    )
    wanted = {str(text): "sha256:" + hashlib.sha256(text.read_bytes()).hexdigest()}
    assert made.record["sources"] == wanted
    assert Plan.load(tmp_path / "out" / PLAN_FILE).about["sources"] == wanted


def test_mixtures_tell_what_their_parts_do(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    one, other = (TransTokenizer(text=str(tmp_path / name)) for name in "ab")
    both = one.sources() | other.sources()
    parts = [
        {"method": "transtokenizer", "parameters": {"text": part.text}} for part in (one, other)
    ]
    assert Mix(of=parts).sources() == both
    assert ByKind(rest=one, kinds={"code": Pieces(), "digits": other}).sources() == both
