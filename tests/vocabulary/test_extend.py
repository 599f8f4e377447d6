"""Tokenizers with more tokens, by the real library: old tokens stay, new ones are reached."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.vocabulary.conftest import CORPUS
from tokswap.checkpoint.fidelity import TEXTS
from tokswap.errors import RecipeError, VocabularyError
from tokswap.vocabulary.extend import Extension, extend_vocabulary
from tokswap.vocabulary.extended import check_extended
from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Load = Callable[[str], Vocabulary]
BPE = ("byte-level", "split", "prepend", "metaspace", "whitespace")
WORDS = [" hypernetwork", " hypernetworks", "übernetz", " zymurgy", "networks", " мирный", "世界"]
"""None of which is in any of these tokenizers."""


@pytest.fixture
def extend(tmp_path: Path) -> Callable[..., tuple[Vocabulary, Extension]]:
    """Add tokens to a tokenizer, and read what came of it."""

    def work(old: Vocabulary, tokens: Sequence[str], **settings: Any) -> Any:
        (tmp_path / "tokenizer.json").write_text(json.dumps(old.specification), encoding="utf-8")
        named = {f"{role}_token": old.strings[number] for role, number in old.roles.items()}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
        files = {path.name: path for path in tmp_path.iterdir()}
        found = extend_vocabulary(old, files, tokens, **settings)
        for name, text in found.contents.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        new = load_vocabulary({p.name: p for p in tmp_path.iterdir()}, name=old.name)
        check_extended(old, new, found)
        return new, found

    return work


def rebuilt(specification: dict[str, Any]) -> Vocabulary:
    """Read a changed tokenizer.json."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "tokenizer.json"
        path.write_text(json.dumps(specification), encoding="utf-8")
        return load_vocabulary({path.name: path}, name="rebuilt")


def assert_extended(old: Vocabulary, new: Vocabulary, found: Extension) -> None:
    """Old tokens are where they were, new ones are the cut of their text, other text stays."""
    ids = len(old)
    backend = new.backend
    assert new.strings[:ids] == old.strings
    assert new.spelling[:ids] == old.spelling
    for number, string in enumerate(old.strings):
        if string and (number % 97 == 0 or number in old.special):
            assert backend.token_to_id(string) == number
            assert backend.id_to_token(number) == string
    assert (new.special, new.roles) == (old.special, old.roles)
    more = [*found.tokens.values(), *found.intermediates]
    assert more == [*range(ids, ids + len(more))]
    assert len(new) == ids + len(more)
    for token, number in found.tokens.items():
        assert new.spelling[number] == token.encode()
    made = {new.spelling[number] for number in [*more, *found.bridges]}
    for text in TEXTS + tuple(CORPUS[:3]):
        if not any(data in f" {text}".encode() for data in made):
            assert backend.encode(text).ids == old.backend.encode(text).ids


@pytest.mark.parametrize("name", [*BPE, "unigram", "wordpiece"])
def test_small_tokenizers(name: str, small: Load, extend: Any) -> None:
    old = small(name)
    wanted = WORDS if name != "wordpiece" else [word for word in WORDS if word.isascii()]
    new, found = extend(old, wanted)
    assert_extended(old, new, found)
    assert list(found.tokens) == wanted
    assert (found.merges > 0) == (name in BPE)
    assert cut(new, [word.encode() for word in wanted]) == [[n] for n in found.tokens.values()]
    # Within a text, too, wherever they begin a word.
    words = [word for word in wanted if word.startswith(" ")]
    ids = new.backend.encode("the" + "".join(words), add_special_tokens=False).ids
    assert ids[-len(words) :] == [found.tokens[word] for word in words]
    number = found.tokens["networks"]
    with pytest.raises(
        RecipeError, match=rf"(?s)nothing to add to {name}; .*'networks': it is .*{number}"
    ):
        extend(new, wanted)


@pytest.mark.parametrize("inside", [False, True])
def test_words_that_are_taken_whole_need_no_merges(inside: bool, small: Load, extend: Any) -> None:
    said = dict(small("split").specification)
    said["model"] = {**said["model"], "ignore_merges": True}
    entry = {**said["added_tokens"][0], "id": len(small("split")), "content": "<|more|>"}
    said["added_tokens"] = [*said["added_tokens"], entry]  # behind the model's, as in Llama 3
    old = rebuilt(said)
    assert "<|more|>" not in said["model"]["vocab"]
    new, found = extend(old, WORDS, inside=inside)
    assert_extended(old, new, found)
    assert bool(found.intermediates) == inside
    assert new.backend.encode(" zymurgy").ids == [found.tokens[" zymurgy"]]
    ids = new.backend.encode(" zymurgyx").ids
    assert (found.tokens[" zymurgy"] in ids) == inside


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("gpt2", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("llama2", False), ("llama3", False), ("llama3", True), ("mistral-nemo", False),
                ("mistral-nemo", True), ("mistral-v3", False), ("qwen", False), ("qwen", True),
            ]
        ),
    ],
)  # fmt: skip
def test_real_tokenizers(name: str, inside: bool, real: Load, extend: Any) -> None:
    old = real(name)
    new, found = extend(old, [word for word in WORDS if word != "世界"], skip=True, inside=inside)
    assert_extended(old, new, found)
    alone = old.specification["model"]["ignore_merges"] and not inside
    assert bool(found.intermediates) != alone
    number = found.tokens[" hypernetworks"]
    for before, after in ((".", "."), ("x", " x"), ("\n", "\n")):
        ids = new.backend.encode(f"{before} hypernetworks{after}").ids
        assert number in ids
    texts = [" multihypernetworksx", "a zymurgyish übernetzwerk"]
    for text in texts:
        back = new.backend.decode(new.backend.encode(text, add_special_tokens=False).ids)
        assert back == old.backend.decode(old.backend.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("name", ["byte-level", "split", "wordpiece"])
def test_added_tokens_are_found_in_raw_text(name: str, small: Load, extend: Any) -> None:
    old = small(name)
    tokens = [" New York", "New York", "!!\n", "x-ray"]
    new, found = extend(old, tokens, how="added")
    assert list(found.tokens.values()) == [*range(len(old), len(old) + 4)]
    assert (found.merges, found.intermediates) == (0, ())
    assert all(new.backend.token_to_id(token) == n for token, n in found.tokens.items())
    assert not found.tokens.keys() & new.special_ids.keys()
    ids = new.backend.encode("the New Yorks!!\nx-ray", add_special_tokens=False).ids
    assert {found.tokens[token] for token in (" New York", "!!\n", "x-ray")} <= {*ids}
    assert new.backend.encode("the dog").ids == old.backend.encode("the dog").ids


def test_added_tokens_are_listed_beside(small: Load, tmp_path: Path) -> None:
    old = small("split")
    said = {"added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": True}}}
    for name, content in {
        "tokenizer.json": old.specification,
        "tokenizer_config.json": said,
        "added_tokens.json": {"<|endoftext|>": 0},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    files = {path.name: path for path in tmp_path.iterdir()}
    found = extend_vocabulary(old, files, ["New York"], how="added")
    number = len(old)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    listed = json.loads(found.contents["tokenizer_config.json"])["added_tokens_decoder"]
    assert listed == said["added_tokens_decoder"] | {str(number): {"content": "New York", **flags}}
    beside = json.loads(found.contents["added_tokens.json"])
    assert beside == {"<|endoftext|>": 0, "New York": number}
    assert extend_vocabulary(old, files, ["York"]).contents.keys() == {"tokenizer.json"}


@pytest.mark.parametrize("name", ["prepend", "metaspace", "unigram"])
def test_added_tokens_that_would_move_the_text_around_them_are_refused(
    name: str, small: Load, extend: Any
) -> None:
    message = f"'x ?New York ?x' would come back from {name} as 'x ?New York  ?x' .* `--as merges`"
    with pytest.raises(RecipeError, match=message):
        extend(small(name), ["New York"], how="added")


def test_added_tokens_that_a_byte_level_decoder_would_spoil_are_refused(
    small: Load, extend: Any
) -> None:
    old = small("split")
    with pytest.raises(RecipeError, match=r"'café': the byte-level decoder would take its letters"):
        extend(old, ["café"], how="added")
    new, _ = extend(old, ["café au lait"], how="added")  # a space is none of them
    assert new.backend.decode(new.backend.encode("x café au lait").ids) == "x café au lait"


@pytest.mark.parametrize(
    ("name", "tokens", "message"),
    [
        ("split", ["a", "<|endoftext|>"], "split cannot have one of the tokens; leave it out:\n  "
         r"'<.endoftext.>': it is a special token$"),
        ("split", ["New York", "xyz", "don't"], r"cannot have 2 of the tokens; leave them out "
         r"\(--skip does\), or find what its model cannot make by `--as added`:\n  'New York': the "
         r"pre-tokenizer cuts it into 'New' and ' York'\n  \"don't\": the"),
        ("split", ["a b"] + [f"a b{n}" for n in range(10)], r"\n  and 1 more$"),
        ("split", ["a", "b", "a"], "nothing to add .*:\n  'a': it is token \\d+ already\n  'b': "),
        ("wordpiece", [" " + 101 * "a"], "words of more than 100 characters are unknown"),
        ("wordpiece", ["<code>"], "(?s)nothing to add .* it is token 27 already"),
        ("prepend", ["<0x41>"], "its tokens cannot say so"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_refused(
    name: str, tokens: list[str], message: str, small: Load, extend: Any
) -> None:
    with pytest.raises(RecipeError, match=message):
        extend(small(name), tokens)


def test_what_cannot_be_added_may_be_left_out(small: Load, extend: Any) -> None:
    old = small("split")
    _, found = extend(old, ["New York", "a", " York", "<|endoftext|>", " York"], skip=True)
    assert found.tokens == {" York": len(old)}
    assert found.left_out == {
        "a": f"it is token {old.ids[b'a']} already",
        "New York": "the pre-tokenizer cuts it into 'New' and ' York'",
        "<|endoftext|>": "it is a special token",
    }
    with pytest.raises(RecipeError, match="nothing to add"):
        extend(old, ["New York"], skip=True)


def test_no_special_token_is_made_on_the_way(small: Load, extend: Any) -> None:
    old = small("prepend")
    assert "<s>" in old.specification["model"]["vocab"]
    _, found = extend(old, ["<s>x", "x<s>", "<s"])
    assert not found.bridges


def test_a_byte_token_is_no_token_of_the_text(small: Load, extend: Any) -> None:
    old = small("prepend")
    assert old.ids[b"\t"] in old.fallback
    new, found = extend(old, ["\t"])
    assert new.ids[b"\t"] == found.tokens["\t"]
    assert found.tokens["\t"] in new.backend.encode("a\tb").ids


def test_merges_stay_in_the_form_that_they_have(small: Load, extend: Any) -> None:
    said = dict(small("split").specification)
    merges = [" ".join(pair) for pair in said["model"]["merges"]]
    said["model"] = {**said["model"], "merges": merges}
    new, found = extend(rebuilt(said), [" York"])
    written = new.specification["model"]["merges"]
    assert written[: len(merges)] == merges
    assert len(written) == len(merges) + found.merges
    assert all(isinstance(merge, str) for merge in written)


def test_ids_with_gaps_stay(make: Callable[..., Vocabulary], extend: Any) -> None:
    table = {"a": 0, "b": 5, "</s>": 7, "<x>": 9}
    old = make(table, special=["</s>"], added=["<x>"], alphabet="byte-level", eos="</s>")
    assert len(old) == 9  # the library closes the gap before an added token
    new, found = extend(old, ["ab"])
    assert_extended(old, new, found)
    assert found.tokens == {"ab": 9}


def test_a_tokenizer_that_does_not_do_it_is_found_out(small: Load, extend: Any) -> None:
    old = small("split")
    new, found = extend(old, [" hypernetwork"])
    with pytest.raises(VocabularyError, match="its tokens would not stay what they are"):
        check_extended(small("byte-level"), new, found)
    lacking = dict(new.specification)
    lacking["model"] = {**lacking["model"], "merges": old.specification["model"]["merges"]}
    broken = replace(new, specification=lacking)
    with pytest.raises(
        VocabularyError, match="' hypernetwork' is not reached in split, which cuts"
    ):
        check_extended(old, broken, found)
