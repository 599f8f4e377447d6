"""A tokenizer rewritten byte-level: same ids, same tokens, and every byte can be written."""

import json
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models

from tests.vocabulary.conftest import CORPUS, SMALL
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import VocabularyError
from tokswap.hypernet.byte_level import byte_level
from tokswap.vocabulary.spelling import byte_alphabet, to_byte_level
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Load = Callable[[str], Vocabulary]
BUNDLED = ["tiny-llama", "tiny-mistral"]
OTHERS = [name for name in SMALL if name not in {"byte-level", "split"}]


@pytest.fixture
def rewritten(tmp_path) -> Callable[[Vocabulary], tuple[Vocabulary, int]]:
    def rewrite(base: Vocabulary) -> tuple[Vocabulary, int]:
        said, added = byte_level(base)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
        return load_vocabulary({"tokenizer.json": path}, name="rewritten"), added

    return rewrite


def check(base: Vocabulary, made: Vocabulary, added: int) -> int:
    """Check what holds of every base; return how many tokens its own model cannot reach."""
    assert made.alphabet == "byte-level"
    assert len(made) == len(base) + added
    assert made.moved == []
    assert all(made.strings[number] == base.strings[number] for number in base.special)
    assert base.special <= made.special
    assert all(byte in made.by_string for byte in byte_alphabet().values())
    bare, own = Tokenizer(made.backend.model), Tokenizer(base.backend.model)
    added_text = set(base.added_ids.values())
    ids = [number for number in base.ids.values() if number not in added_text]
    cut = bare.encode_batch_fast([to_byte_level(base.spelling[number] or b"") for number in ids])
    assert all(made.spelling[number] == base.spelling[number] for number in base.ids.values())
    wrong = [n for n, encoding in zip(ids, cut, strict=True) if encoding.ids != [n]]
    if base.alphabet != "wordpiece":  # whose model needs to know where words begin
        reached = [n for n in wrong if own.encode(base.strings[n]).ids == [n]]
        assert [n for n in reached if n not in base.fallback] == []
    return len(wrong)


@pytest.mark.parametrize("name", SMALL)
def test_every_token_is_cut_from_its_bytes(name: str, small: Load, rewritten) -> None:
    base = small(name)
    assert check(base, *rewritten(base)) == 0


@pytest.mark.parametrize("name", BUNDLED)
def test_every_token_of_the_bundled_models_is_cut_from_its_bytes(name: str, rewritten) -> None:
    base = Checkpoint.open(name).vocabulary
    assert check(base, *rewritten(base)) == 0


@pytest.mark.parametrize(("name", "unreached"), [("llama2", 0), ("mistral-v3", 20)])
def test_every_token_of_real_tokenizers_is_cut_from_its_bytes(
    name: str, unreached: int, real: Load, rewritten
) -> None:
    """All but the control tokens of Mistral that tokenizer.json calls plain tokens."""
    base = real(name)
    made, added = rewritten(base)
    assert 0 < added < 500
    assert check(base, made, added) == unreached


@pytest.mark.parametrize("name", ["byte-level", "split"])
def test_a_byte_level_tokenizer_stays_as_it_is(name: str, small: Load) -> None:
    base = small(name)
    said, added = byte_level(base)
    assert said == base.specification
    assert added == 0


@pytest.mark.parametrize("name", OTHERS)
def test_any_bytes_can_be_cut(name: str, small: Load, rewritten) -> None:
    made, _ = rewritten(small(name))
    model = Tokenizer(made.backend.model)
    every = bytes(range(256)) + "日本 \U0001f98a".encode() + bytes(range(255, -1, -1))
    ids = model.encode(to_byte_level(every)).ids
    assert b"".join(made.spelling[number] or b"" for number in ids) == every
    assert not made.special & set(ids)


@pytest.mark.parametrize(
    ("name", "text"), [("unigram", "<0x41>"), ("prepend", "<0x41>"), ("wordpiece", "##!")]
)
def test_what_cannot_be_reached_is_not_reached_by_its_string(
    name: str, text: str, small: Load, rewritten
) -> None:
    """The second of two tokens with the same bytes stands for no text that is written like it."""
    base = small(name)
    made, _ = rewritten(base)
    assert base.by_string[text] not in Tokenizer(made.backend.model).encode(text).ids


def test_a_character_of_unigram_is_cheaper_than_its_bytes(tmp_path, rewritten) -> None:
    """Whatever scores its byte tokens have: in the base they stand for what nothing else does."""
    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "é", "<s>"]
    scored = [(token, 0.0 if len(token) > 1 else -9.0) for token in tokens]
    base = Tokenizer(models.Unigram(scored, unk_id=None, byte_fallback=True))
    base.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    base.add_special_tokens(["<s>"])
    base.save(str(tmp_path / "base.json"))
    made, _ = rewritten(load_vocabulary({"tokenizer.json": tmp_path / "base.json"}, name="base"))
    model = Tokenizer(made.backend.model)
    assert model.encode(to_byte_level("éé".encode())).ids == [256, 256]
    assert 257 not in model.encode("<s>").ids


@pytest.mark.parametrize("name", ["prepend", "metaspace", "whitespace", "unigram"])
def test_text_is_cut_as_the_base_cuts_it(name: str, small: Load, rewritten) -> None:
    """Where the base has the characters; beyond them both write bytes."""
    base = small(name)
    made, _ = rewritten(base)
    for text in ["The quick brown fox", "jumps over the lazy dog; the  end", CORPUS[0]]:
        ids = base.backend.encode(text, add_special_tokens=False).ids
        assert made.backend.encode(text, add_special_tokens=False).ids == ids
        assert made.backend.decode(ids) == base.backend.decode(ids)


def test_characters_come_before_the_bases_merges(make, rewritten) -> None:
    """`é` is two bytes, `中` three: their beginnings are appended, and the base's merges hold."""
    tokens = ["é", "中", "▁", "▁é", "éé", *(f"<0x{byte:02X}>" for byte in range(256)), "<s>"]
    base = make(tokens, special=["<s>"])
    said = json.loads(json.dumps(base.specification))
    said["model"]["merges"] = [["▁", "é"], ["é", "é"]]
    base = Vocabulary(**{**vars_of(base), "specification": said})
    made, added = rewritten(base)
    assert added == 1  # the first two bytes of 中
    assert made.spelling[len(base)] == "中".encode()[:2]
    model = Tokenizer(made.backend.model)

    def cut(text: str) -> list[str]:
        return [tokens[n] for n in model.encode(to_byte_level(text.encode())).ids]

    assert cut(" éé中") == ["▁é", "é", "中"]
    assert cut("ééé") == ["éé", "é"]
    assert cut("\xe8") == ["<0xC3>", "<0xA8>"]  # è, which the base lacks
    assert cut("A") == ["<0x41>"]


def vars_of(vocabulary: Vocabulary) -> dict:
    return {name: getattr(vocabulary, name) for name in Vocabulary.__dataclass_fields__}


def test_the_plain_token_of_two_is_the_one_that_is_reached(make, rewritten) -> None:
    base = make(["A", "<0x41>", "<0xFF>", "▁"])
    made, added = rewritten(base)
    assert [made.strings[number] for number in range(4)] == ["A", "<0x41>", "ÿ", "Ġ"]
    assert added == 253
    model = Tokenizer(made.backend.model)
    assert model.encode("A").ids == [0]
    assert model.encode(to_byte_level(b"\xff")).ids == [2]


def test_added_tokens_stay_as_they_are_matched(make, rewritten) -> None:
    base = make(["a", "b", "<s>", "<tool>"], special=["<s>"], added=["<tool>"])
    made, _ = rewritten(base)
    assert made.backend.encode("a<tool><s>b", add_special_tokens=False).ids == [0, 3, 2, 1]
    assert made.added_ids == base.added_ids


def test_a_byte_level_tokenizer_gets_the_bytes_that_it_lacks(make, rewritten) -> None:
    letters = [letter for letter in byte_alphabet().values() if letter != "ÿ"]
    base = make([*letters, "<s>"], special=["<s>"], alphabet="byte-level")
    made, added = rewritten(base)
    assert added == 1
    assert made.strings[-1] == "ÿ"
    assert made.strings[:-1] == base.strings


def test_a_prefix_of_continuations_in_bpe_is_refused(make) -> None:
    base = make(["a", "##b"])
    said = {**base.specification, "model": {**base.specification["model"]}}
    said["model"]["continuing_subword_prefix"] = "##"
    with pytest.raises(VocabularyError, match="continuing_subword_prefix"):
        byte_level(Vocabulary(**{**vars_of(base), "specification": said}))
