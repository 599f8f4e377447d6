"""Where the rows of a new vocabulary come from."""

from collections.abc import Callable

import numpy as np
import pytest

from tokswap.vocabulary.align import Alignment, Kind, align, roles_with_rows
from tokswap.vocabulary.tokens import Vocabulary

Make = Callable[..., Vocabulary]
Load = Callable[[str], Vocabulary]
REAL = ("llama3", "mistral-nemo", "qwen", "gpt2", "llama2", "mistral-v3")
SMALL = ("byte-level", "split", "prepend", "metaspace", "unigram", "wordpiece")


def of(base: Vocabulary, donor: Vocabulary, **changes: object) -> Alignment:
    sizes = {"base_rows": len(base), "rows": len(donor)} | changes
    return align(base, donor, **sizes)  # type: ignore[arg-type]


def assert_identity(vocabulary: Vocabulary, rows: int) -> None:
    found = of(vocabulary, vocabulary, base_rows=rows, rows=rows)
    assert found.source.tolist() == list(range(rows))
    assert not len(found.missing)
    assert not len(found.ids(Kind.UNMATCHED))


@pytest.mark.parametrize("name", REAL)
def test_every_real_vocabulary_is_itself(real: Load, name: str) -> None:
    assert_identity(real(name), len(real(name)) + 11)


@pytest.mark.parametrize("name", SMALL)
def test_every_small_vocabulary_is_itself(small: Load, name: str) -> None:
    assert_identity(small(name), len(small(name)) + 3)


def test_a_vocabulary_with_gaps_is_itself(make: Make) -> None:
    vocabulary = make({"<s>": 1, "A": 4, "<0x41>": 2, "b": 7}, special=["<s>"], bos="<s>")
    assert_identity(vocabulary, 12)


def test_counts_of_llama3_to_mistral_nemo(real: Load) -> None:
    found = of(real("llama3"), real("mistral-nemo"))
    assert found.shared == 71_640
    assert len(found.missing) == 58_432
    assert len(found.ids(Kind.SPECIAL, Kind.UNMATCHED)) == 1_000
    assert found.rows == 131_072 == 71_640 + 58_432 + 1_000
    shown = {found.donor.strings[n]: reason for n, reason in found.reasons.items()}
    assert shown["<s>"] == "role bos"
    assert shown["</s>"] == "role eos"
    assert found.source[1] == 128_000
    assert found.source[2] == 128_001


def test_counts_of_llama2_to_llama3(real: Load) -> None:
    found = of(real("llama2"), real("llama3"))
    assert found.shared == 26_599
    assert len(found.missing) == 101_401
    by_byte_token = [int(n) for n in found.source[found.anchors] if n in found.base.fallback]
    assert len(by_byte_token) == 160
    assert all(len(found.base.spelling[n] or b"") == 1 for n in by_byte_token)


@pytest.mark.parametrize(("base", "donor"), [("llama3", "mistral-nemo"), ("gpt2", "llama2")])
def test_a_shared_real_token_has_the_bytes_of_its_source(real: Load, base: str, donor: str) -> None:
    found = of(real(base), real(donor))
    for number in found.ids(Kind.SHARED):
        source = found.source[number]
        assert found.base.spelling[source] == found.donor.spelling[number]
        assert source not in found.base.special
    lacking = {found.donor.spelling[n] for n in found.missing}
    assert not lacking & set(found.base.ids)


def test_a_permuted_vocabulary_is_matched_by_the_permutation(make: Make) -> None:
    tokens = ["<s>", "</s>", "a", "▁a", "<0x61>", "ab", "<0xF0>"]
    order = np.random.default_rng(0).permutation(len(tokens)).tolist()
    base = make(tokens, special=tokens[:2], bos="<s>", eos="</s>")
    donor = make([tokens[n] for n in order], special=tokens[:2], bos="<s>", eos="</s>")
    assert of(base, donor).source.tolist() == order


def test_tokens_meet_across_alphabets(make: Make) -> None:
    base = make(["▁the", "<0x0A>", "the", "é"])
    donor = make(["the", "Ġthe", "Ċ", "é", "Ã©", "Ġé"], alphabet="byte-level")
    found = of(base, donor)
    assert found.source.tolist() == [2, 0, 1, -1, 3, -1]  # a lone byte E9 is no é
    assert [donor.spelling[n] for n in found.missing] == [b"\xe9", b" \xe9"]


def test_a_plain_base_token_beats_a_byte_token(make: Make) -> None:
    found = of(make(["<0x41>", "A"]), make(["A"], alphabet="byte-level"))
    assert found.source.tolist() == [1]


def test_tokens_with_equal_bytes_match_the_one_written_alike(make: Make) -> None:
    found = of(make(["<0x41>", "A"]), make(["A", "<0x41>"]))
    assert found.source.tolist() == [1, 0]


def test_a_byte_token_without_its_like_takes_the_plain_token(make: Make) -> None:
    found = of(make(["A"], alphabet="byte-level"), make(["<0x41>", "A"]))
    assert found.source.tolist() == [0, 0]
    assert found.shared == 2
    assert found.anchors.tolist() == [1]  # the byte token was never trained


def test_a_string_alike_with_other_bytes_is_no_match(make: Make) -> None:
    found = of(make(["Ġa"]), make(["Ġa"], alphabet="byte-level"))
    assert found.source.tolist() == [-1]


def test_text_never_takes_the_row_of_a_special_token(make: Make) -> None:
    base = make(["<s>", "x"], special=["<s>"], bos="<s>")
    found = of(base, make(["<s>", "x"]))
    assert found.source.tolist() == [-1, 1]
    assert found.kind.tolist() == [Kind.MISSING, Kind.SHARED]


def test_a_special_token_never_takes_the_row_of_text(make: Make) -> None:
    found = of(make(["<s>", "x"]), make(["<s>", "x"], special=["<s>"]))
    assert found.kind.tolist() == [Kind.UNMATCHED, Kind.SHARED]
    assert found.reasons == {0: "no counterpart"}


def test_gpt2_as_donor_keeps_the_end_of_text(real: Load) -> None:
    for name in ("llama2", "llama3"):
        found = of(real(name), real("gpt2"))
        assert found.source[50_256] == real(name).roles["eos"]
        assert found.reasons[50_256].startswith("role eos")


def test_gpt2_as_donor_of_a_base_that_never_ends(make: Make, real: Load) -> None:
    opening = make(["<s>", "a"], special=["<s>"], bos="<s>")
    assert of(opening, real("gpt2")).kind[50_256] == Kind.UNMATCHED


def test_base_tokens_beyond_the_rows_are_not_there(make: Make) -> None:
    base = make(["a", "b", "</s>", "<s>"], special=["</s>", "<s>"], eos="</s>", bos="<s>")
    donor = make(["<s>", "</s>", "b", "a"], special=["</s>", "<s>"], eos="</s>", bos="<s>")
    assert of(base, donor).source.tolist() == [3, 2, 1, 0]
    found = of(base, donor, base_rows=1)
    assert found.source.tolist() == [-1, -1, -1, 0]
    assert found.kind.tolist() == [Kind.UNMATCHED, Kind.UNMATCHED, Kind.MISSING, Kind.SHARED]
    assert found.used_base_ids.tolist() == [0]
    assert found.pieces == {2: []}
    assert roles_with_rows(base, 3) == {"eos": 2}


def test_unused_ids_take_no_base_row_but_of_the_same_vocabulary(make: Make) -> None:
    base, donor = make({"a": 1, "b": 3}), make({"a": 0, "c": 4})
    found = of(base, donor, base_rows=6, rows=8)
    assert found.source.tolist() == [1, -1, -1, -1, -1, -1, -1, -1]
    assert found.kind[[1, 2, 3, 5, 6, 7]].tolist() == [Kind.UNUSED] * 6
    assert found.missing.tolist() == [4]
    own = of(base, make({"b": 3, "a": 1}), base_rows=6, rows=8)
    assert own.source.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    assert own.kind[[0, 2, 4, 5, 6, 7]].tolist() == [Kind.UNUSED] * 6


def test_an_override_has_the_last_word(make: Make) -> None:
    base = make(["<s>", "a", "b"], special=["<s>"], bos="<s>")
    found = of(base, base, overrides={0: [1, 2], 1: []})
    assert found.kind.tolist() == [Kind.OVERRIDE, Kind.OVERRIDE, Kind.SHARED]
    assert found.source.tolist() == [-1, -1, 2]
    assert found.reasons == {0: "override"}
    assert found.shared == 1
    assert found.overrides == {0: [1, 2], 1: []}


@pytest.mark.parametrize("overrides", [{2: [0]}, {0: [2]}, {-1: [0]}, {0: [-1]}])
def test_overrides_of_ids_that_are_not_there_are_refused(
    make: Make, overrides: dict[int, list[int]]
) -> None:
    vocabulary = make(["a", "b"])
    with pytest.raises(ValueError, match="overrides name ids"):
        of(vocabulary, vocabulary, overrides=overrides)


def test_too_few_rows_are_refused(make: Make) -> None:
    vocabulary = make(["a", "b"])
    with pytest.raises(ValueError, match="1 rows are too few for 2 donor ids"):
        of(vocabulary, vocabulary, rows=1)


@pytest.mark.parametrize(("base", "donor"), [("llama2", "llama3"), ("gpt2", "mistral-v3")])
def test_pieces_of_missing_real_tokens_join_to_their_bytes(
    real: Load, base: str, donor: str
) -> None:
    found = of(real(base), real(donor))
    assert list(found.pieces) == found.missing.tolist()
    spelling = found.base.spelling
    wrong = {
        number: pieces
        for number, pieces in found.pieces.items()
        if b"".join(spelling[n] or b"" for n in pieces) != found.donor.spelling[number]
    }
    assert not wrong
