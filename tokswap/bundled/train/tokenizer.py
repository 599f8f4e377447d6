"""The two tokenizers: byte-level BPE as Llama 3 has it, SentencePiece's BPE as Llama 2 has it."""

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tokswap.bundled.train.corpus import Document, code, prose

SPACE = "▁"
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# A piece never holds two digits, nor a space after another character; a run of spaces stands apart
# from the word after it, for that is how BPE without a pre-tokenizer cuts an even indentation.
SENTENCEPIECE_SPLIT = rf"{SPACE}?\p{{L}}+|\p{{N}}|{SPACE}?[^{SPACE}\p{{L}}\p{{N}}]+|{SPACE}+"
MAX_TOKEN_LENGTH = 24  # of a run of spaces or of dashes, mostly
CODE_SHARE = 60  # one line of code in so many goes with the prose


def train_byte_level(documents: tuple[Document, ...], vocab_size: int) -> dict[str, Any]:
    """Train a byte-level BPE tokenizer on code, with Llama 3's split and special tokens.

    Args:
        documents: The files to train on, without their docstrings.
        vocab_size: The size of the vocabulary, special tokens included.

    Returns:
        The content of `tokenizer.json`.
    """
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special),
        initial_alphabet=alphabet,
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(code(documents), trainer)
    tokenizer.add_special_tokens(special)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return _with_bos(content, special[0], content["added_tokens"][0]["id"])


def train_sentencepiece(documents: tuple[Document, ...], vocab_size: int) -> dict[str, Any]:
    """Train a BPE tokenizer with byte fallback on mostly prose, in the form of Llama 2's.

    The pre-tokenizer of the training is absent from the result: merges learned within its pieces
    cannot join two of them, and without it the files are in the form that Llama 2's have.

    Args:
        documents: The files to train on: their docstrings and a little of their code.
        vocab_size: The size of the vocabulary, special tokens and byte tokens included.

    Returns:
        The content of `tokenizer.json`.
    """
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    alphabet = [SPACE, *string.ascii_letters, *string.digits, *string.punctuation]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SENTENCEPIECE_SPLIT), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(first),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_prose_lines(documents), trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    model = content["model"]
    # SentencePiece's order: the control tokens, the bytes, the merges, the single characters.
    learned = sorted(model["vocab"], key=lambda token: (len(token) == 1, model["vocab"][token]))
    model["vocab"] = {token: index for index, token in enumerate([*first, *learned])}
    model |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    content["added_tokens"] = [_special(index, token) for index, token in enumerate(first[:3])]
    content["pre_tokenizer"] = None
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ],
    }
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return _with_bos(content, "<s>", 1)


def write_tokenizer(content: dict[str, Any], special: dict[str, str], folder: Path) -> Tokenizer:
    """Write a tokenizer's two files.

    Args:
        content: The content of `tokenizer.json`.
        special: The special tokens by their names in `tokenizer_config.json`.
        folder: Where to write.

    Returns:
        The tokenizer, read back from the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    settings = {
        "backend": "tokenizers",
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000000000000019884624838656,
        "tokenizer_class": "TokenizersBackend",
    }
    text = json.dumps(settings, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    return Tokenizer.from_file(str(path))


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Look up a token that has to be there.

    Args:
        tokenizer: The tokenizer.
        token: The token.

    Returns:
        Its id.

    Raises:
        KeyError: The tokenizer does not have it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return int(found)


def _prose_lines(documents: tuple[Document, ...]) -> Iterable[str]:
    lines = [line for text in prose(documents) for line in text.splitlines()]
    lines += [line for text in code(documents) for line in text.splitlines()[::CODE_SHARE]]
    for line in lines:
        if line.isascii():  # other characters are left to the byte tokens
            yield SPACE + line.replace("\t", " ").replace(" ", SPACE)


def _special(index: int, token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": token, **flags, "special": True}


def _with_bos(content: dict[str, Any], token: str, index: int) -> dict[str, Any]:
    def piece(kind: str, name: str, sequence: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": sequence}}

    first = [piece("SpecialToken", token, 0), piece("Sequence", "A", 0)]
    second = [piece("SpecialToken", token, 1), piece("Sequence", "B", 1)]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, *second],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }
    return content
