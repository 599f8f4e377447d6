"""Counts from texts whose answer is known, and what is made of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import MethodError
from tokswap.evaluation.measure import SAMPLE
from tokswap.methods import Problem, Sizes
from tokswap.methods.pieces import Pieces
from tokswap.methods.translation import count_translated
from tokswap.methods.transtokenizer import TransTokenizer
from tokswap.vocabulary.align import Alignment, Kind, align
from tokswap.vocabulary.shared_text import count_shared
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Ask = Callable[..., Problem]
A, B, AB, C = range(4)
BASE = ["a", "b", "ab", "c", " ", "\n"]
CAB, BC, ACB = range(4, 7)
DONOR = ["a", "b", "c", "ca", "cab", "bc", "acb", " ", "\n"]
TEXT = "cab" * 3 + "\n" + "bc"


@pytest.fixture
def tiny(tiny_vocabulary: Callable[..., Vocabulary]) -> Alignment:
    """The donor's merges are of the base's tokens `c` and `ab`, and beside them."""
    base = tiny_vocabulary("base", BASE, ("a", "b"))
    donor = tiny_vocabulary("donor", DONOR, ("c", "a"), ("ca", "b"), ("b", "c"))
    return align(base, donor, base_rows=len(BASE), rows=len(DONOR))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(text: str | bytes, name: str = "text.txt") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return make


@cache
def itself(name: str) -> Alignment:
    """A tokenizer against itself, as if it had every token of its own to find."""
    vocabulary = Checkpoint.open(name).vocabulary
    found = align(vocabulary, vocabulary, base_rows=len(vocabulary), rows=len(vocabulary))
    kind = np.where(found.kind == Kind.SHARED, Kind.MISSING, found.kind).astype(np.uint8)
    return replace(found, kind=kind)


def weights(ask: Ask, tiny: Alignment, number: int, **settings: object) -> dict[int, float]:
    table = torch.randn(len(BASE), 3, generator=torch.Generator().manual_seed(1))
    problem = ask([number], given=tiny, base=table)
    return dict(TransTokenizer(outliers=None, **settings).fill(problem).row(0))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_a_tokenizer_against_itself_gives_every_token_itself(name: str) -> None:
    alignment = itself(name)
    text = SAMPLE.read_text(encoding="utf-8")
    counts = count_shared(alignment, text.splitlines(keepends=True), label="test")
    assert len(counts.donor) > 500
    assert (counts.donor == counts.base).all()
    np.testing.assert_array_equal(counts.count, counts.occurred[counts.donor])


def test_only_missing_tokens_are_counted(alignment: Alignment) -> None:
    counts = count_shared(alignment, [SAMPLE.read_text(encoding="utf-8")], label="test")
    assert len(counts.donor) > 100
    assert set(counts.donor.tolist()) <= set(alignment.missing.tolist())
    sums = np.bincount(counts.donor, weights=counts.count, minlength=alignment.rows)
    np.testing.assert_allclose(sums[alignment.missing], counts.occurred[alignment.missing])


def test_a_token_is_what_the_base_writes_in_its_place(
    ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    text = write(TEXT)
    assert weights(ask, tiny, CAB, text=text, smoothing=0) == pytest.approx({C: 1 / 3, AB: 2 / 3})
    assert weights(ask, tiny, BC, text=text, smoothing=0) == pytest.approx({B: 1 / 2, C: 1 / 2})


def test_the_place_of_a_token_decides_its_pieces(
    ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    """After `a` the base writes the b of `bc` with that; the token alone is cut `b` `c`."""
    text = write("abc bbc bbc")
    assert tiny.pieces[BC] == [B, C]
    found = weights(ask, tiny, BC, text=text, smoothing=0)
    assert found == pytest.approx({AB: 1 / 6, B: 1 / 3, C: 1 / 2})


def test_smoothing_is_in_occurrences_of_the_pieces(
    ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    found = weights(ask, tiny, CAB, text=write(TEXT), smoothing=2)  # which occurs three times
    assert found == pytest.approx({C: 3 / 5 / 3 + 2 / 5 / 2, AB: 3 / 5 * 2 / 3 + 2 / 5 / 2})


@pytest.mark.parametrize(
    ("number", "settings"),
    [(ACB, {}), (ACB, {"smoothing": 0, "minimum": 0}), (BC, {"minimum": 2}), (CAB, {"minimum": 4})],
)
def test_tokens_that_are_too_rare_are_their_pieces(
    number: int, settings: dict[str, float], ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    wanted = dict(Pieces().fill(ask([number], given=tiny)).row(0))
    assert weights(ask, tiny, number, text=write(TEXT), **settings) == pytest.approx(wanted)


def test_only_the_most_counted_tokens_are_kept(
    ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    found = weights(ask, tiny, CAB, text=write(TEXT), smoothing=0, k=1)
    assert found == {AB: 1.0}


def test_an_untrained_row_is_no_source(ask: Ask, alignment: Alignment, base_table: Tensor) -> None:
    method = TransTokenizer(text=[str(SAMPLE)], smoothing=0)
    ids = [int(number) for number in alignment.missing]
    before = method.fill(ask(ids))
    used = before.indices[before.indices < alignment.base_rows]
    odd = int(used.bincount().argmax())
    table = base_table.clone()
    table[odd] = 0.0
    after = method.fill(ask(ids, base=table))
    fewer = (after.indices == odd).sum()
    assert fewer < (before.indices == odd).sum()  # only in pieces, of what the text lacks
    rest = [place for place in range(len(ids)) if odd not in dict(before.row(place))]
    assert len(rest) > 100
    assert all(before.row(place) == after.row(place) for place in rest)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n\n ", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_text_that_is_none_is_refused(
    content: str | bytes | None, said: str, ask: Ask, tiny: Alignment, write: Callable[..., str]
) -> None:
    path = "/no/such/file" if content is None else write(content)
    with pytest.raises(MethodError, match=rf"^transtokenizer cannot .*{said}"):
        weights(ask, tiny, CAB, text=path)


@pytest.mark.parametrize(
    ("text", "translation", "said"),
    [
        ("a\nb\n", "a\nb\nc\n", "text.txt has 2 lines and .*donor.txt has 3.*aligned line by line"),
        ("\n \n", "a\nb\n", "finds no line in .*text.txt that has a translation in .*donor.txt"),
        (None, "a\n", "was given 0 files of text and 1 of donor_text"),
    ],
)
def test_translations_that_are_none_are_refused(
    text: str | None,
    translation: str,
    said: str,
    ask: Ask,
    tiny: Alignment,
    write: Callable[..., str],
) -> None:
    given = [] if text is None else [write(text)]
    donor_text = write(translation, "donor.txt")
    with pytest.raises(MethodError, match=said):
        weights(ask, tiny, CAB, text=given, donor_text=donor_text)


def test_what_is_missing_is_told_at_once(alignment: Alignment, write: Callable[..., str]) -> None:
    sizes = Sizes(alignment, 24, 0)
    TransTokenizer(text=write("a")).check(sizes)
    with pytest.raises(MethodError, match=r"cannot read /no/file: there is no such file"):
        TransTokenizer(text=write("a"), donor_text="/no/file").check(sizes)
    with pytest.raises(MethodError, match="was given donor_text without text, which it translates"):
        TransTokenizer(donor_text=write("a")).check(sizes)


WORDS = [f"w{letter}" for letter in "abcdefghijklmnop"]
"""Words of one language; the other writes them with another first letter, in another order."""


def test_a_planted_dictionary_is_found(
    ask: Ask, tiny_vocabulary: Callable[..., Vocabulary], write: Callable[..., str]
) -> None:
    letters = [*"abcdefghijklmnop", " "]
    merges = {side: [(side, letter) for letter in letters[:-1]] for side in "wv"}
    base, donor = (
        tiny_vocabulary(side, [side, *letters, *map("".join, merges[side])], *merges[side])
        for side in "wv"
    )
    alignment = align(base, donor, base_rows=len(base), rows=len(donor))
    draw = np.random.default_rng(1)
    lines = [draw.choice(WORDS, draw.integers(1, 7)) for _ in range(200)]
    text = write("\n".join(" ".join(line) for line in lines))
    other = "\n".join(" ".join(draw.permutation(line)) for line in lines).replace("w", "v")
    translation = write(other, "donor.txt")
    table = torch.randn(len(base), 3, generator=torch.Generator().manual_seed(1))
    ids = [donor.ids[word.replace("w", "v").encode()] for word in WORDS]
    method = TransTokenizer(text=[text], donor_text=[translation], outliers=None)
    filled = method.fill(ask(ids, given=alignment, base=table))
    for place, word in enumerate(WORDS):
        assert dict(filled.row(place))[base.ids[word.encode()]] > 0.9


@pytest.fixture(scope="module")
def english_and_russian(shared: Path) -> tuple[Alignment, list[tuple[str, str]]]:
    """Llama 2's vocabulary for English, Llama 3's for Russian, and the articles in both."""
    sides = [
        load_vocabulary({path.name: path for path in (shared / "tokenizers" / name).iterdir()},
                        name=name)
        for name in ("llama2", "llama3")
    ]  # fmt: skip
    texts = [
        (shared / "text" / "udhr" / f"{name}.txt").read_text(encoding="utf-8")
        for name in ("eng", "rus")
    ]
    base, donor = sides
    articles = [_articles(text) for text in texts]
    assert len(articles[0]) == len(articles[1]) == 30
    pairs = [
        pair
        for one, other in zip(*articles, strict=True)
        for pair in (
            zip(one, other, strict=True)
            if len(one) == len(other)
            else [(" ".join(one), " ".join(other))]
        )
    ]
    return align(base, donor, base_rows=len(base), rows=len(donor)), pairs


def _articles(text: str) -> list[list[str]]:
    """The lines of each article, whose heading ends in its number."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    headings = [n for n, line in enumerate(lines) if len(line) < 20 and line[-1].isdigit()]
    return [lines[n + 1 : after] for n, after in pairwise([*headings, len(lines)])]


def test_the_declaration_of_human_rights_teaches_some_russian(
    english_and_russian: tuple[Alignment, list[tuple[str, str]]],
) -> None:
    alignment, pairs = english_and_russian
    counts = count_translated(alignment, pairs, label="test")
    known = {" рав": " equal", " соци": " social", " защ": " protection", " труд": " work"}
    for word, english in known.items():
        _, found = counts.of(alignment.donor.ids[word.encode()])
        assert alignment.base.show(max(found, key=lambda n: found[n])) == repr(english)
    donor = alignment.donor
    texts = [(donor.spelling[n] or b"").decode(errors="replace") for n in counts.donor.tolist()]
    assert all(any(map(str.isalpha, text)) for text in texts)
    assert any(not any(map(str.isalpha, donor.show(int(n)))) for n in alignment.missing)
    sums = np.bincount(counts.donor, weights=counts.count, minlength=alignment.rows)
    np.testing.assert_allclose(sums[counts.donor], counts.occurred[counts.donor])


def test_lines_beyond_what_fits_are_left_out(
    english_and_russian: tuple[Alignment, list[tuple[str, str]]],
) -> None:
    alignment, pairs = english_and_russian
    some = count_translated(alignment, pairs, label="test", max_cells=5000)
    few = count_translated(alignment, pairs[:2], label="test")
    assert 0 < len(some.donor) < len(count_translated(alignment, pairs, label="test").donor)
    assert set(few.donor.tolist()) <= set(some.donor.tolist())
