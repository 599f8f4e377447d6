"""A tokenizer as a table of bytes: the identity of a token is its bytes and whether it is special.

Everything is read from tokenizer.json and the small files beside it. Nothing is read through
``decode([id])``, which drops leading spaces and cannot show part of a character.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.errors import NameUnknownError, VocabularyError
from tokswap.vocabulary.special import read_roles
from tokswap.vocabulary.spelling import BYTE_FALLBACK, spelling_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL = re.compile(r"[<\[].+[>\]]")
"""How control tokens are written, such as ``<s>`` and ``[PAD]``."""

MODELS = ("BPE", "Unigram", "WordPiece")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one tokenizer.

    Attributes:
        name: What the user called the tokenizer.
        alphabet: How its tokens are written: byte-level, sentencepiece, wordpiece or text.
        spelling: By id, the token's bytes; None where no token has the id.
        strings: By id, the token as tokenizer.json writes it; "" where no token has the id.
        special: Ids of special (control) tokens; their bytes are never text.
        fallback: Ids of tokens ``<0xNN>``, which stand for a byte when nothing else does.
        ids: Id of each ordinary token by its bytes; a plain token beats a byte-fallback token,
            then the lower id wins.
        roles: Id of the token that plays each role (bos, eos, pad, unk, cls, sep, mask).
        specification: The parsed tokenizer.json.
        sha256: Hash of tokenizer.json.
    """

    name: str
    alphabet: str
    spelling: tuple[bytes | None, ...]
    strings: tuple[str, ...]
    special: frozenset[int]
    fallback: frozenset[int]
    ids: Mapping[bytes, int]
    roles: Mapping[str, int]
    specification: Mapping[str, Any] = field(repr=False)
    sha256: str

    def __len__(self) -> int:
        """Number of ids from 0 to the highest one in use, gaps included."""
        return len(self.spelling)

    @cached_property
    def backend(self) -> "Tokenizer":
        """The tokenizer itself, with truncation and padding off.

        Raises:
            VocabularyError: If the tokenizers library cannot build it.
        """
        backend = build_tokenizer(self.specification, self.name)
        backend.no_truncation()
        backend.no_padding()
        return backend

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """Ids of the special tokens by their strings."""
        return {self.strings[number]: number for number in sorted(self.special)}

    def find(self, text: str) -> int:
        """Find the one token that a user means by a text.

        A special token's string comes first, then the token whose bytes are the text, then the
        token as tokenizer.json writes it (``Ġthe``, ``▁the``).

        Raises:
            NameUnknownError: If there is no such token; the message shows how the text is cut.
        """
        found = self.special_ids.get(text)
        if found is None:
            found = self.ids.get(text.encode())
        if found is None and text in self.by_string:
            found = self.by_string[text]
        if found is None:
            tokens = self.backend.encode(text, add_special_tokens=False).tokens
            cut = " ".join(repr(token) for token in tokens)
            raise NameUnknownError(
                f"{text!r} is not one token of {self.name}, which cuts it as {cut}; "
                "name one of its tokens (a leading space counts)"
            )
        return found

    @cached_property
    def added_ids(self) -> Mapping[str, int]:
        """Ids of the added tokens by their strings, special ones and text."""
        added = (token["content"] for token in self.specification.get("added_tokens") or [])
        return {string: self.by_string[string] for string in added if string in self.by_string}

    @property
    def moved(self) -> list[str]:
        """The added tokens whose ids in tokenizer.json are not those that they get."""
        said = self.specification.get("added_tokens") or []
        return [t["content"] for t in said if self.by_string.get(t["content"]) != t["id"]]

    @cached_property
    def by_string(self) -> Mapping[str, int]:
        """Ids of all tokens by the strings that tokenizer.json writes."""
        return {string: number for number, string in enumerate(self.strings) if string}

    def show(self, number: int) -> str:
        """Write a token for people: the text it stands for, bytes as escapes."""
        if number in self.special:
            return self.strings[number]
        data = self.spelling[number] if number < len(self) else None
        if data is None:
            return f"(no token {number})"
        try:
            return repr(data.decode())
        except UnicodeDecodeError:
            return repr(data)


def build_tokenizer(specification: Mapping[str, Any], name: str) -> "Tokenizer":
    """Build a tokenizer from the content of a tokenizer.json.

    Raises:
        VocabularyError: If the tokenizers library cannot build it.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(specification, ensure_ascii=False))
    except Exception as error:  # the library raises Exception itself
        raise VocabularyError(
            f"{name}: the installed tokenizers cannot read its tokenizer.json ({error}); "
            "upgrade tokenizers"
        ) from error


def load_vocabulary(
    files: Mapping[str, Path], *, name: str, config: Mapping[str, Any] | None = None
) -> Vocabulary:
    """Read a tokenizer's tokens as bytes.

    Args:
        files: Paths of the tokenizer's files by file name; tokenizer.json is needed,
            tokenizer_config.json and special_tokens_map.json tell the roles.
        name: What to call the tokenizer in messages.
        config: The model's config.json, whose ids tell the roles that the tokenizer's files leave
            open.

    Raises:
        VocabularyError: If tokenizer.json is missing, malformed, or of an unknown kind, or a file
            beside it is malformed.
    """
    if "tokenizer.json" not in files:
        raise VocabularyError(
            f"{name} has no tokenizer.json; load it once with transformers and save_pretrained(), "
            "which writes one"
        )
    raw = files["tokenizer.json"].read_bytes()
    try:
        specification = json.loads(raw)
        model = specification["model"]
        kind = model.get("type", "BPE")
        alphabet, spell = spelling_of(specification) if kind in MODELS else ("", str.encode)
        table = _model_tokens(model)
        spelt = {number: spell(string) for string, number in table.items()}
        strings = {number: string for string, number in table.items()}
        added = _added_tokens(specification.get("added_tokens") or [], table)
        for number, token in added.items():
            strings[number] = token["content"]
            # An added token is matched in the text as it stands, so a byte-level alphabet does not
            # apply to it; SentencePiece writes the space mark in added tokens too.
            literal = token["special"] or alphabet != "sentencepiece"
            spelt[number] = token["content"].encode() if literal else spell(token["content"])
    except VocabularyError as error:
        raise VocabularyError(f"{name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise VocabularyError(
            f"{name}: tokenizer.json is not valid ({type(error).__name__}: {error}); fetch it again"
        ) from error
    if kind not in MODELS:
        raise VocabularyError(
            f"{name}: tokenizer.json holds a {kind} model; supported are " + ", ".join(MODELS)
        )
    unknown = _unknown(model, table)
    text = spelt.keys() - added.keys() - unknown
    try:
        ids = {string: number for number, string in strings.items()}
        roles = read_roles(files, config, ids, text)
    except VocabularyError as error:
        raise VocabularyError(f"{name}: {error}") from error
    special = {number for number, token in added.items() if token["special"]}
    # A role makes a token special, but not one that is plain text all the same (pad_token: "!").
    control = {n for n in roles.values() if n in added or CONTROL.fullmatch(strings[n])}
    special |= control | unknown
    fallback = (
        {number for string, number in table.items() if BYTE_FALLBACK.fullmatch(string)}
        if alphabet == "sentencepiece"
        else set()
    )
    size = max(strings, default=-1) + 1
    return Vocabulary(
        name=name,
        alphabet=alphabet,
        spelling=tuple(spelt.get(number) for number in range(size)),
        strings=tuple(strings.get(number, "") for number in range(size)),
        special=frozenset(special),
        fallback=frozenset(fallback - special),
        ids=_by_bytes(spelt, special, fallback),
        roles=roles,
        specification=specification,
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _model_tokens(model: Mapping[str, Any]) -> dict[str, int]:
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: [token, score] in the order of ids
        return {token: number for number, (token, _score) in enumerate(vocab)}
    return {str(token): int(number) for token, number in vocab.items()}


def _added_tokens(
    said: Sequence[Mapping[str, Any]], table: Mapping[str, int]
) -> dict[int, Mapping[str, Any]]:
    """Number the added tokens as the tokenizers library does, which is what texts will hold.

    It gives a token that the model lacks the next id, whatever id stands beside it, so that gaps
    between added tokens close.
    """
    ids: dict[str, int] = {}
    for token in said:
        string = token["content"]
        following = max(max(ids.values(), default=-1) + 1, len(table))
        ids.setdefault(string, table.get(string, following))
    return {ids[token["content"]]: token for token in said}


def _unknown(model: Mapping[str, Any], table: Mapping[str, int]) -> set[int]:
    """Return the id of the model's token for the unknown, which stands for no text."""
    if model.get("type") == "Unigram":
        return set() if model.get("unk_id") is None else {int(model["unk_id"])}
    return {table[model["unk_token"]]} if model.get("unk_token") in table else set()


def _by_bytes(
    spelt: Mapping[int, bytes], special: set[int], fallback: set[int]
) -> dict[bytes, int]:
    ids: dict[bytes, int] = {}
    ordinary = (number for number in spelt if number not in special)
    for number in sorted(ordinary, key=lambda number: (number in fallback, number)):
        ids.setdefault(spelt[number], number)
    return ids
