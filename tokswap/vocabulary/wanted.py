"""Which of the tokens that a user names can be added to a tokenizer, and why the others cannot."""

from collections.abc import Sequence
from typing import Literal

from tokswap.errors import RecipeError
from tokswap.vocabulary.spelling import from_byte_level
from tokswap.vocabulary.tokens import Vocabulary
from tokswap.vocabulary.whole import whole_checker

How = Literal["merges", "added"]
"""How new tokens are found in a text: the model makes them, or they are found before it."""

SHOWN = 10
"""Tokens that a message names."""


def sort_out(
    vocabulary: Vocabulary, tokens: Sequence[str], how: How, *, skip: bool
) -> tuple[list[str], dict[str, str]]:
    """Tell tokens that can be added from those that cannot.

    Args:
        vocabulary: What they are to be added to.
        tokens: As they stand in texts.
        how: How they are to be found.
        skip: Leave out those that cannot be added, instead of refusing them.

    Returns:
        The tokens to add, each once, in their order; and why others are left out.

    Raises:
        RecipeError: If there are some that cannot be added, or there is nothing to add.
    """
    why_not = whole_checker(vocabulary)
    wanted: list[str] = []
    there: dict[str, str] = {}
    faults: dict[str, str] = {}
    split = False
    for token in dict.fromkeys(tokens):
        if token in vocabulary.special_ids:
            faults[token] = "it is a special token"
        elif (number := _id_of(vocabulary, token)) is not None:
            there[token] = f"it is token {number} already"
        elif how == "added":
            if reason := _unreadable(vocabulary, token):
                faults[token] = reason
            else:
                wanted.append(token)
        elif reason := _too_long(vocabulary, token) or why_not(token):
            faults[token], split = reason, True
        else:
            wanted.append(token)
    if faults and not skip:
        way = f"leave {'it' if len(faults) == 1 else 'them'} out (--skip does)"
        way += ", or find what its model cannot make by `--as added`" * split
        raise RecipeError(
            f"{vocabulary.name} cannot have {_counted(len(faults))}; {way}:"
            + "".join(_lines(faults))
        )
    if not wanted:
        reasons = "".join(_lines(there | faults))
        raise RecipeError(
            f"there is nothing to add to {vocabulary.name}; name tokens that it lacks:{reasons}"
        )
    return wanted, there | faults


def _id_of(vocabulary: Vocabulary, token: str) -> int | None:
    """Find a token that stands for this text, other than for single bytes."""
    number = vocabulary.added_ids.get(token, vocabulary.ids.get(token.encode()))
    return None if number in vocabulary.fallback else number


def _unreadable(vocabulary: Vocabulary, token: str) -> str | None:
    """Say why an added token would come back as something else."""
    if vocabulary.alphabet != "byte-level" or from_byte_level(token) == token.encode():
        return None
    return "the byte-level decoder would take its letters for bytes"


def _too_long(vocabulary: Vocabulary, token: str) -> str | None:
    """Say why WordPiece, which takes a very long word for unknown, would not look at a token."""
    most = vocabulary.specification["model"].get("max_input_chars_per_word")
    if most is None or len(token.strip()) <= most:
        return None
    return f"words of more than {most} characters are unknown"


def _counted(count: int) -> str:
    return "one of the tokens" if count == 1 else f"{count:,} of the tokens"


def _lines(reasons: dict[str, str]) -> list[str]:
    shown = [f"\n  {token!r}: {reason}" for token, reason in list(reasons.items())[:SHOWN]]
    more = len(reasons) - SHOWN
    return [*shown, f"\n  and {more:,} more"] if more > 0 else shown
