import json
import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tokswap.errors import EvaluationError
from tokswap.evaluation.streaming import stream_ids

SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps 12 hours.\n"
REAL = ["gpt2", "llama2", "llama3", "mistral-nemo", "mistral-v3", "qwen"]


def whole(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def streamed(tokenizer: Tokenizer, text: str, piece: int) -> list[int]:
    return list(chain.from_iterable(stream_ids(chunked(text), tokenizer, piece=piece)))


def chunked(text: str) -> Iterator[str]:
    """Chunks of uneven lengths that do not know of the pieces."""
    generator = random.Random(1)  # noqa: S311 - no secret
    begin = 0
    while begin < len(text):
        end = begin + generator.randrange(1, 500)
        yield text[begin:end]
        begin = end


def awkward(characters: int, seed: int) -> str:
    """Long runs of one kind, torn characters, special tokens: what a cut can disturb."""
    generator = random.Random(seed)  # noqa: S311 - no secret
    kinds = ["0123456789", " ", "=", " \n\t", "\n", "😀👩‍👧é́नि", "abcXYZ'", "the fox "]
    text = ""
    while len(text) < characters:
        length = generator.choice([3, 20, 200, 1500])
        text += "".join(generator.choices(generator.choice(kinds), k=length))
        text += generator.choice(["", " and so on, ", "<s>", "</s>", "<|endoftext|>"])
    return text


def metaspace(tokenizer: Tokenizer, scheme: str, split: bool) -> Tokenizer:
    state = json.loads(tokenizer.to_str())
    state["normalizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    return tokenizer


@pytest.mark.parametrize("piece", [97, 2_000])
@pytest.mark.parametrize("seed", range(3))
def test_streamed_ids_are_those_of_the_whole(
    byte_level: Tokenizer, sentencepiece: Tokenizer, piece: int, seed: int
) -> None:
    text = awkward(12_000, seed)
    kinds = {"byte-level": byte_level, "sentencepiece": sentencepiece}
    for scheme in ("first", "always"):
        for split in (True, False):
            kinds[f"{scheme}-{split}"] = metaspace(sentencepiece, scheme, split)
    for name, tokenizer in kinds.items():
        assert streamed(tokenizer, text, piece) == whole(tokenizer, text), name


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_stream_as_they_encode_the_whole(shared: Path, name: str) -> None:
    tokenizer = Tokenizer.from_file(str(shared / "tokenizers" / name / "tokenizer.json"))
    texts = {path.stem: path.read_text("utf-8") for path in (shared / "text/udhr").glob("*.txt")}
    assert len(texts) == 12
    texts["wikitext"] = (shared / "text/wikitext-2-test.txt").read_text("utf-8")[:100_000]
    texts["awkward"] = awkward(20_000, seed=3)
    for language, text in texts.items():
        assert streamed(tokenizer, text, 2_000) == whole(tokenizer, text), language


def test_real_text_streams_with_the_default_piece(shared: Path) -> None:
    tokenizer = Tokenizer.from_file(str(shared / "tokenizers/llama2/tokenizer.json"))
    text = (shared / "text/wikitext-2-test.txt").read_text("utf-8")[:400_000]
    lists = list(stream_ids(chunked(text), tokenizer))
    assert len(lists) > 5  # it was a stream
    assert list(chain.from_iterable(lists)) == whole(tokenizer, text)


def test_digits_are_grouped_from_the_first_one() -> None:
    # Groups of three, most of them spelled in single digits: pieces that group in another rhythm
    # show the same tokens over long runs, until one of them meets "123" as a group.
    vocab = {str(digit): digit for digit in range(10)} | {"12": 10, "123": 11, " ": 12}
    tokenizer = Tokenizer(models.BPE(vocab, [("1", "2"), ("12", "3")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d{1,3}|\s+"), "isolated")
    for phase in range(3):
        text = " " + "9" * phase + "9" * 500 + "123" + "9" * 99 + "9123" * 40 + " 1"
        assert streamed(tokenizer, text, 150) == whole(tokenizer, text)


def test_a_seam_within_a_word_is_not_trusted() -> None:
    # After "=" the line ends belong to its word, and the next space does not; begun among the line
    # ends, the pre-tokenizer takes that space for a part of theirs, and "\\n " is a token.
    vocab = {token: n for n, token in enumerate(["=", "\n", " ", "x", "\n "])}
    tokenizer = Tokenizer(models.BPE(vocab, [("\n", " ")]))
    cut = Regex(r"=+\n*|\s*\n+|\s+|x")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(cut, "isolated")
    text = "x = " * 50 + "=" + "\n" * 300 + " \n" + "x" * 300
    assert streamed(tokenizer, text, 150) == whole(tokenizer, text)


def test_a_look_ahead_without_end_is_an_error_and_no_wrong_figure() -> None:
    vocab = {token: n for n, token in enumerate(["a", "!", "aa"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("a", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"a+(?=a*!)|a|!"), "isolated")
    with pytest.raises(EvaluationError, match=r"characters \d+ to \d+ .* split the document there"):
        streamed(tokenizer, "a" * 1000 + "!", 150)


def test_memory_stays_bounded_on_ordinary_text(byte_level: Tokenizer) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += len(SENTENCE)
            yield SENTENCE

    given = 0
    for ids in stream_ids(endless(), byte_level, piece=1_000):
        given += len(byte_level.decode(ids))
        assert taken - given < 4_000
        if given > 20_000:
            break


def test_short_and_empty_documents(byte_level: Tokenizer, sentencepiece: Tokenizer) -> None:
    for tokenizer in (byte_level, sentencepiece):
        for text in ("", "a", "The fox"):
            assert streamed(tokenizer, text, 100) == whole(tokenizer, text)


def test_a_tokenizer_that_truncates_is_refused(byte_level: Tokenizer) -> None:
    tokenizer = Tokenizer.from_str(byte_level.to_str())
    tokenizer.enable_truncation(5)
    with pytest.raises(ValueError, match="truncates or pads: call no_truncation"):
        list(stream_ids(iter(["The fox"]), tokenizer))
