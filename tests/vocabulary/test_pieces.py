"""How another tokenizer cuts a token's bytes."""

from collections.abc import Callable

import pytest

from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.tokens import Vocabulary

Make = Callable[..., Vocabulary]
Load = Callable[[str], Vocabulary]
WHOLE = [
    b"the",
    b" the",
    b"  the",
    b" ",
    b"\n",
    "naïve café".encode(),
    " 世界".encode(),
    b"there 12",
]
BROKEN = [
    b"\xf0\x9f",
    b"\x98\x80",
    b" \xe4\xb8",
    b"\xff",
    b"a\xc3",
    b"\x80the\xe4",
    b"\xed\xa0\x80",
]


def written(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    return [vocabulary.strings[number] for number in ids]


def joined(vocabulary: Vocabulary, ids: list[int]) -> bytes:
    return b"".join(vocabulary.spelling[number] or b"" for number in ids)


@pytest.mark.parametrize("name", ["byte-level", "split", "prepend", "metaspace", "unigram"])
def test_pieces_join_to_the_bytes(small: Load, name: str) -> None:
    data = [*WHOLE, *BROKEN]
    assert [joined(small(name), ids) for ids in cut(small(name), data)] == data


@pytest.mark.parametrize("name", ["byte-level", "split", "prepend", "metaspace"])
def test_marks_of_another_alphabet_are_plain_text(small: Load, name: str) -> None:
    data = ["▁".encode(), "▁the".encode(), "a▁▁b".encode(), "Ġthe".encode(), b"<0x41>", b"<s>"]
    assert [joined(small(name), ids) for ids in cut(small(name), data)] == data


@pytest.mark.parametrize("name", ["llama2", "gpt2", "mistral-v3"])
def test_real_tokens_are_cut_into_themselves(real: Load, name: str) -> None:
    vocabulary = real(name)
    data = list(vocabulary.ids)
    found = cut(vocabulary, data)
    assert [joined(vocabulary, ids) for ids in found] == data
    alone = sum(ids == [vocabulary.ids[item]] for ids, item in zip(found, data, strict=True))
    assert alone > 0.999 * len(data)


@pytest.mark.parametrize(("name", "other"), [("llama3", "qwen"), ("mistral-nemo", "llama3")])
def test_tokens_of_large_real_vocabularies_are_cut_by_themselves_and_by_others(
    real: Load, name: str, other: str
) -> None:
    vocabulary = real(name)
    own, foreign = list(vocabulary.ids), [s for s in real(other).ids if s not in vocabulary.ids]
    broken = [item for item in own if b"\xef\xbf\xbd" in item.decode(errors="replace").encode()]
    data = [*own[::16], *broken, *foreign[::16]]
    assert [joined(vocabulary, ids) for ids in cut(vocabulary, data)] == data


def test_there_is_no_dummy_space(small: Load) -> None:
    for name in ("prepend", "metaspace", "unigram"):
        vocabulary = small(name)
        assert vocabulary.backend.encode("the", add_special_tokens=False).tokens[0] == "▁the"
        found = cut(vocabulary, [b"the", b" the"])
        assert joined(vocabulary, found[0]) == b"the"
        assert written(vocabulary, found[1]) == ["▁the"]


def test_the_forms_of_sentencepiece_agree(small: Load) -> None:
    data = [b"the", b" the", b" there then", b"other dog", *BROKEN]
    expected = cut(small("prepend"), data)
    assert cut(small("metaspace"), data) == expected
    assert cut(small("whitespace"), data) == expected


def test_no_special_token_is_a_piece(small: Load) -> None:
    for name, marked in (("byte-level", b"<|endoftext|>a"), ("prepend", b"<s>a</s>")):
        vocabulary = small(name)
        (found,) = cut(vocabulary, [marked])
        assert not set(found) & vocabulary.special
        assert joined(vocabulary, found) == marked


def test_bytes_that_cannot_be_written_are_left_out(make: Make) -> None:
    vocabulary = make(["a", "▁", "é"])
    found = cut(vocabulary, [b"a a", b"\xff", b"aza", "é".encode(), b"\xc3", b""])
    assert found == [[0, 1, 0], [], [0, 0], [2], [], []]


def test_part_of_a_character_is_cut_by_the_merges(small: Load) -> None:
    vocabulary = small("byte-level")
    spelt = [s for s in vocabulary.ids if len(s) > 1 and "\ufffd" in s.decode(errors="replace")]
    assert spelt  # the corpus has some
    assert cut(vocabulary, spelt) == [[vocabulary.ids[item]] for item in spelt]


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (b" playing", ["play", "##ing"]),
        (b"playing", ["##play", "##ing"]),  # no space: inside a word
        (b" play players", ["play", "play", "##er", "##s"]),
        (b"play players", ["##play", "play", "##er", "##s"]),
        (b"ing, the!", ["##ing", ",", "the", "!"]),
        (b"abc", ["##a", "##b", "##c"]),
        (b", the", [",", "the"]),
        (b"ING", ["##ing"]),
        (b"xyz", []),
        ("世the".encode(), ["世", "the"]),
    ],
)
def test_wordpiece_starts_and_continuations(small: Load, data: bytes, tokens: list[str]) -> None:
    vocabulary = small("wordpiece")
    (found,) = cut(vocabulary, [data])
    assert written(vocabulary, found) == tokens


def test_wordpiece_tokens_are_cut_into_themselves(small: Load) -> None:
    vocabulary = small("wordpiece")
    data = [item for item in vocabulary.ids if item != b"<code>"]
    assert cut(vocabulary, data) == [[vocabulary.ids[item]] for item in data]


def test_nothing_is_cut_into_nothing(small: Load) -> None:
    assert cut(small("byte-level"), []) == []
    assert cut(small("byte-level"), [b""]) == [[]]
