"""The rules by which llama.cpp takes one model as the draft of another.

Written down from its published sources and not run here: ``common_speculative_are_compatible`` in
``common/speculative.cpp`` at 001d906a6d86, and for what a conversion writes into the file,
``gguf-py/gguf/vocab.py``. Older builds compare the ids of bos and eos whether they are added or
not, and some of 2025 translate through text where this one refuses. A GGUF file that was converted
with other settings may differ from what the folder says.
"""

from collections.abc import Mapping
from typing import Any

from tokswap.evaluation.draft_rules import NOT_RUN, Verdict, transplant_advice
from tokswap.evaluation.draft_tokens import Side

MAX_SIZE_DIFFERENCE = 128
"""SPEC_VOCAB_MAX_SIZE_DIFFERENCE."""

FIRST_COMPARED = 5
"""SPEC_VOCAB_CHECK_START_TOKEN_ID."""

TYPES = {"byte-level": "BPE", "sentencepiece": "SPM", "wordpiece": "WPM"}
ADDED_BY_DEFAULT = {"SPM": {"bos"}, "WPM": {"bos"}, "UGM": {"eos"}}
"""What llama.cpp adds to a text where the file does not say, by the type of the vocabulary."""


def llama_cpp_rules(draft: Side, target: Side) -> Verdict:
    """Judge by llama.cpp; every rule that is broken is named."""
    broken = [*_type(draft, target), *_added(draft, target), *_texts(draft, target)]
    if broken:
        advice = transplant_advice(draft, target)
        return Verdict("llama.cpp", False, "; ".join(broken), advice, NOT_RUN)
    ours, theirs = _size(draft), _size(target)
    size = f"{theirs:,} tokens" if ours == theirs else f"{ours:,} and {theirs:,} tokens"
    reason = f"both are {vocabulary_type(target)} of {size}, alike from id {FIRST_COMPARED} on"
    return Verdict("llama.cpp", True, reason, "pass the draft by --model-draft", NOT_RUN)


def vocabulary_type(side: Side) -> str:
    """Tell which type of vocabulary a conversion makes of a tokenizer."""
    if side.vocabulary.specification["model"].get("type") == "Unigram":
        return "UGM"
    return TYPES.get(side.vocabulary.alphabet, "of no type that llama.cpp knows")


def _type(draft: Side, target: Side) -> list[str]:
    ours, theirs = vocabulary_type(draft), vocabulary_type(target)
    if ours == theirs:
        return []
    return [f"the vocabulary of {draft.name} is {ours} and that of {target.name} {theirs}"]


def _added(draft: Side, target: Side) -> list[str]:
    """Compare which of bos and eos are added to a text, and their ids where they are."""
    broken = []
    ours, theirs = added_tokens(draft), added_tokens(target)
    for role in ("bos", "eos"):
        if (role in ours) != (role in theirs):
            adds, adds_not = (draft, target) if role in ours else (target, draft)
            broken.append(f"{adds.name} adds {role} to a text and {adds_not.name} does not")
        elif role in ours and ours[role] != theirs[role]:
            broken.append(
                f"both add {role}, which is id {ours[role]} in {draft.name} and "
                f"{theirs[role]} in {target.name}"
            )
    return broken


def added_tokens(side: Side) -> dict[str, int | None]:
    """Tell which of bos and eos a converted model adds to a text, with their ids.

    tokenizer_config.json has the last word (``add_bos_token``), then the template of
    tokenizer.json, then the default of the vocabulary's type. An id is None where nothing names
    the token.
    """
    strings, played = side.vocabulary.strings, side.vocabulary.roles
    roles = {
        "bos": played.get("bos", played.get("cls")),
        "eos": played.get("eos", played.get("sep")),
    }
    flags = dict.fromkeys(ADDED_BY_DEFAULT.get(vocabulary_type(side), set()), True)
    for step in _processors(side.vocabulary.specification.get("post_processor")):
        if step.get("type") == "RobertaProcessing":
            flags |= {"bos": True, "eos": True}
        single = step.get("single") or []
        if step.get("type") != "TemplateProcessing" or len(single) < 2:
            continue
        first, last = (_special(single[place]) for place in (0, -1))
        if first is not None:
            number = roles["bos"]
            flags["bos"] = number is not None and strings[number] == first
        if last is not None:  # a conversion takes it as the end of text, whatever the config says
            flags["eos"] = True
            roles["eos"] = side.vocabulary.by_string.get(last)
    for role in ("bos", "eos"):
        said = side.settings.get(f"add_{role}_token")
        if isinstance(said, bool):
            flags[role] = said
    return {role: roles[role] for role, added in flags.items() if added}


def _processors(post_processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if not post_processor:
        return []
    inner: list[Mapping[str, Any]] = post_processor.get("processors") or [post_processor]
    return inner


def _special(item: Mapping[str, Any]) -> str | None:
    said: str | None = (item.get("SpecialToken") or {}).get("id")
    return said


def _size(side: Side) -> int:
    return max(side.rows, len(side.vocabulary))


def _text(side: Side, number: int) -> str:
    """The text that a conversion stores for an id; rows without a token are named by their id."""
    strings = side.vocabulary.strings
    return (strings[number] if number < len(strings) else "") or f"[PAD{number}]"


def _texts(draft: Side, target: Side) -> list[str]:
    broken = []
    ours, theirs = _size(draft), _size(target)
    if abs(ours - theirs) > MAX_SIZE_DIFFERENCE:
        broken.append(
            f"the sizes {ours:,} and {theirs:,} differ by more than {MAX_SIZE_DIFFERENCE} tokens"
        )
    compared = range(FIRST_COMPARED, min(ours, theirs))
    unlike = [number for number in compared if _text(draft, number) != _text(target, number)]
    if unlike:
        number = unlike[0]
        broken.append(
            f"{len(unlike):,} of {len(compared):,} token texts differ, the first at id {number}: "
            f"{_text(draft, number)!r} and {_text(target, number)!r}"
        )
    return broken
