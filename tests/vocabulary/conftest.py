"""Small tokenizers of every alphabet, made in the process; real ones from beside the checkout."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

CORPUS = [
    "The quick brown fox jumps over the lazy dog; the dog sleeps under the old tree.",
    "In 1984 there were 365 days and 12 months, and 24 hours make one day.\n\n    indented\n",
    "naïve café, Привет мир, こんにちは世界, 🦊🦊 – the end. The the the there then other.",
] * 4
LLAMA3_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UNKNOWN: dict[str, Any] = {"unk_token": "<unk>"}
SENTENCEPIECE_SPECIAL = ["<unk>", "<s>", "</s>"]
WORDPIECE_TOKENS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "there", "play", "##ing", "##er", "##s",
    "un", "##play", "##ed", ",", ".", "!", "##!", "世", "##世", "a", "##a", "##b", "##c", "b",
    "##pl", "##ay",
]  # fmt: skip


def byte_level(cut: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split_byte_level() -> Tokenizer:
    cut = pre_tokenizers.Split(Regex(LLAMA3_CUT), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(pre_tokenizers.Sequence([cut, level]))


@cache
def sentencepiece_model() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Train merges over `▁`, and number the tokens as SentencePiece does: bytes first."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    ascii_only = ["".join(c for c in text if c.isascii()) for text in CORPUS]
    trained.train_from_iterator(ascii_only, trainers.BpeTrainer(vocab_size=120))
    said = json.loads(trained.to_str())["model"]
    tokens = [*SENTENCEPIECE_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *said["vocab"]]
    return {token: n for n, token in enumerate(tokens)}, [tuple(pair) for pair in said["merges"]]


def sentencepiece(form: str) -> Tokenizer:
    """Build one vocabulary in one of the forms that are in use; all cut text alike."""
    vocab, merges = sentencepiece_model()
    if form == "unigram":
        scored = [(token, 0.0 if n < 259 else -float(n)) for token, n in vocab.items()]
        model: Any = models.Unigram(scored, unk_id=0, byte_fallback=True)
    else:
        model = models.BPE(vocab, merges, fuse_unk=True, byte_fallback=True, **UNKNOWN)
    tokenizer = Tokenizer(model)
    if form == "prepend":
        marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(marks)
        strip = decoders.Strip(" ", 1, 0)
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        if form == "whitespace":
            inner = [pre_tokenizers.WhitespaceSplit(), tokenizer.pre_tokenizer]
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(inner)
        parts = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens(SENTENCEPIECE_SPECIAL)
    return tokenizer


def wordpiece() -> Tokenizer:
    vocab = {token: number for number, token in enumerate(WORDPIECE_TOKENS)}
    tokenizer = Tokenizer(models.WordPiece(vocab, **{**UNKNOWN, "unk_token": "[UNK]"}))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(WORDPIECE_TOKENS[:5])
    tokenizer.add_tokens([AddedToken("<code>", special=False)])
    return tokenizer


GPT2_ROLES = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
LLAMA_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
BERT_ROLES = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
SMALL: dict[str, tuple[Callable[[], Tokenizer], dict[str, str]]] = {
    "byte-level": (lambda: byte_level(pre_tokenizers.ByteLevel(False)), GPT2_ROLES),
    "split": (split_byte_level, GPT2_ROLES),
    "prepend": (lambda: sentencepiece("prepend"), LLAMA_ROLES),
    "metaspace": (lambda: sentencepiece("metaspace"), LLAMA_ROLES),
    "whitespace": (lambda: sentencepiece("whitespace"), LLAMA_ROLES),
    "unigram": (lambda: sentencepiece("unigram"), LLAMA_ROLES),
    "wordpiece": (wordpiece, BERT_ROLES),
}


def write_tokenizer(folder: Path, said: str, roles: Mapping[str, Any]) -> dict[str, Path]:
    (folder / "tokenizer.json").write_text(said, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(roles), encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Vocabulary]:
    """Small tokenizers by name: see SMALL."""

    @cache
    def load(name: str) -> Vocabulary:
        build, roles = SMALL[name]
        folder = tmp_path_factory.mktemp(name)
        return load_vocabulary(write_tokenizer(folder, build().to_str(), roles), name=name)

    return load


@pytest.fixture(scope="session")
def real(shared: Path) -> Callable[[str], Vocabulary]:
    """Real tokenizers by name."""

    @cache
    def load(name: str) -> Vocabulary:
        folder = shared / "tokenizers" / name
        return load_vocabulary({path.name: path for path in folder.iterdir()}, name=name)

    return load


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Vocabulary]:
    """Write a tokenizer.json token by token, with nothing that is not asked for."""
    count = iter(range(1000))

    def build(
        tokens: Iterable[str] | Mapping[str, int],
        *,
        special: Iterable[str] = (),
        added: Iterable[str] = (),
        alphabet: str = "sentencepiece",
        config: Mapping[str, Any] | None = None,
        **roles: str,
    ) -> Vocabulary:
        table = tokens if isinstance(tokens, Mapping) else {t: n for n, t in enumerate(tokens)}
        replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                      "use_regex": True}  # fmt: skip
        is_text = alphabet == "sentencepiece"
        decoder = {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}]}
        special, said = set(special), {
            "version": "1.0",
            "added_tokens": [
                {"id": table[t], "content": t, "special": t in special, "normalized": False,
                 "single_word": False, "lstrip": False, "rstrip": False}
                for t in [*special, *added]
            ],
            "normalizer": space if is_text else None,
            "pre_tokenizer": None if is_text else byte_level,
            "post_processor": None,
            "decoder": decoder if is_text else byte_level,
            "model": {
                "type": "BPE", "byte_fallback": is_text, "merges": [],
                "vocab": {t: n for t, n in table.items() if t not in added},
            },
        }  # fmt: skip
        folder = tmp_path / f"tokenizer-{next(count)}"
        folder.mkdir()
        named = {f"{role}_token": token for role, token in roles.items()}
        files = write_tokenizer(folder, json.dumps(said), named)
        return load_vocabulary(files, name=folder.name, config=config)

    return build
