"""More tokens for a tokenizer, behind all that it has: an edit of its files.

Every token keeps its id. A new one is either made by the model out of the pieces that it makes now
(by merges; in Unigram by a score, in WordPiece by being the longest match), or it is an added
token, which is found in the text before anything else looks at it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokswap.errors import RecipeError
from tokswap.vocabulary.merges import Pair, new_merges
from tokswap.vocabulary.scores import new_scores
from tokswap.vocabulary.special import read_object
from tokswap.vocabulary.spelling import write_token
from tokswap.vocabulary.tokens import Vocabulary
from tokswap.vocabulary.wanted import How, sort_out

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
"""Of an added token: it is found in the raw text wherever it stands, and takes no space along."""


@dataclass(frozen=True)
class Extension:
    """Tokens that were added to a tokenizer.

    Attributes:
        how: How they are found in a text.
        tokens: The new id of each token that was asked for.
        intermediates: Ids of further new tokens, which merges make on the way.
        bridges: Ids of old tokens that new merges make of other pieces than before.
        merges: How many merges are new.
        left_out: Tokens that were asked for and not added, and why.
        contents: The edited files' contents by file name.
    """

    how: How
    tokens: Mapping[str, int]
    intermediates: tuple[int, ...]
    bridges: tuple[int, ...]
    merges: int
    left_out: Mapping[str, str]
    contents: Mapping[str, str] = field(repr=False)


def extend_vocabulary(
    vocabulary: Vocabulary,
    files: Mapping[str, Path],
    tokens: Sequence[str],
    *,
    how: How = "merges",
    inside: bool = False,
    skip: bool = False,
) -> Extension:
    """Add tokens to a tokenizer.

    Args:
        vocabulary: Its tokens.
        files: Paths of its files by file name.
        tokens: The new tokens as they stand in texts; those that it has already are left out.
        how: Whether its model makes them (``merges``), or they are added tokens (``added``).
        inside: Whether merges are to make every token out of its pieces also where the model takes
            whole words from its vocabulary. Otherwise such a model gets no intermediate tokens, and
            finds a token of three pieces or more only where it is a word of its own.
        skip: Leave out tokens that cannot be added, instead of refusing them.

    Returns:
        The edit; nothing is written.

    Raises:
        RecipeError: If a token cannot be added, or there is nothing to add.
        VocabularyError: If a token can be made only by way of special ones.
    """
    wanted, left_out = sort_out(vocabulary, tokens, how, skip=skip)
    specification = dict(vocabulary.specification)
    model = dict(specification["model"])
    strings = [token if how == "added" else write_token(specification, token) for token in wanted]
    more: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    if how == "merges" and model.get("type", "BPE") == "BPE":
        alone = bool(model.get("ignore_merges")) and not inside
        found = new_merges(
            strings,
            tokens=model["vocab"],
            merges=read_merges(model),
            forbidden=_forbidden(vocabulary),
            alone=alone,
        )
        pairs, more, bridges = found.pairs, found.intermediates, found.bridges
        model["merges"] = _with_merges(model["merges"], pairs)
    ids = {string: len(vocabulary) + n for n, string in enumerate([*strings, *more])}
    model["vocab"] = _with_tokens(vocabulary, model, ids, scored=how == "merges")
    specification["model"] = model
    contents = {}
    if how == "added":
        entries = [{"id": ids[s], "content": s, **FLAGS, "special": False} for s in strings]
        added = specification.get("added_tokens") or []
        specification["added_tokens"] = [*added, *entries]
        contents = _beside(files, entries)
    contents["tokenizer.json"] = _json_like(files["tokenizer.json"], specification)
    return Extension(
        how=how,
        tokens={token: ids[string] for token, string in zip(wanted, strings, strict=True)},
        intermediates=tuple(ids[string] for string in more),
        bridges=tuple(vocabulary.by_string[string] for string in bridges),
        merges=len(pairs),
        left_out=left_out,
        contents=contents,
    )


def read_merges(model: Mapping[str, Any]) -> list[Pair]:
    """Read the merges of a BPE model, which older files write as one string each."""
    merges = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    return [(left, right) for left, right in merges]


def _with_merges(old: Sequence[Any], pairs: Sequence[Pair]) -> list[Any]:
    """Write merges behind others, in their form where that can write them."""
    as_strings = bool(old) and isinstance(old[0], str)
    if as_strings and not any(" " in piece for pair in pairs for piece in pair):
        return [*old, *(" ".join(pair) for pair in pairs)]
    both = read_merges({"merges": old}) if as_strings else old
    return [*both, *(list(pair) for pair in pairs)]


def _forbidden(vocabulary: Vocabulary) -> set[str]:
    """Name the tokens that no merge may make: they stand for no text, or for a byte."""
    control = {vocabulary.strings[n] for n in vocabulary.special | vocabulary.fallback}
    return control | vocabulary.added_ids.keys()


def _with_tokens(
    vocabulary: Vocabulary, model: Mapping[str, Any], ids: Mapping[str, int], *, scored: bool
) -> Any:
    """Add tokens to a model's vocabulary, its added tokens with them.

    The tokenizers library numbers an added token that the model lacks behind the model's own, so
    that it would move; where the model has it, it stays.

    Args:
        vocabulary: The tokens there were.
        model: The model of tokenizer.json.
        ids: The new tokens with their ids.
        scored: Whether a Unigram model is to find them.

    Raises:
        RecipeError: If the model numbers its tokens by their order, and ids have gaps.
    """
    old = model["vocab"]
    if isinstance(old, dict):
        added = {s: n for s, n in vocabulary.added_ids.items() if s not in old}
        return {**old, **added, **ids}
    names = {name for name, _ in old}
    behind = {s: n for s, n in vocabulary.added_ids.items() if s not in names} | dict(ids)
    if sorted(behind.values()) != list(range(len(old), len(old) + len(behind))):
        raise RecipeError(
            f"tokens cannot be added to {vocabulary.name}, whose ids have gaps; give a tokenizer "
            "without"
        )
    worst = min((score for _, score in old), default=0.0)
    scores = dict.fromkeys(behind, worst)
    if scored:
        text = {n for n in vocabulary.ids.values() if n not in vocabulary.fallback}
        pieces = {name: score for n, (name, score) in enumerate(old) if n in text}
        scores |= new_scores(list(ids), pieces, worst=worst)
    return [*old, *([name, scores[name]] for name in sorted(behind, key=behind.__getitem__))]


def _beside(files: Mapping[str, Path], entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Edit the lists of added tokens that lie beside tokenizer.json."""
    contents = {}
    name = "tokenizer_config.json"
    said = read_object(files[name]) if name in files else {}
    if "added_tokens_decoder" in said:
        listed = {
            str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
            for entry in entries
        }
        said["added_tokens_decoder"] = {**said["added_tokens_decoder"], **listed}
        contents[name] = _json_like(files[name], said)
    name = "added_tokens.json"
    if name in files:
        ids = {entry["content"]: entry["id"] for entry in entries}
        contents[name] = _json_like(files[name], read_object(files[name]) | ids)
    return contents


def _json_like(path: Path, said: Mapping[str, Any]) -> str:
    """Write JSON in lines, or in one where the file that it replaces has one."""
    with path.open("rb") as file:
        in_lines = b"\n" in file.read(64).strip()
    if in_lines:
        return json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))
