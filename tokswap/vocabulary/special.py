"""Special tokens: which role each plays, and which base token it takes its row from."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokswap.errors import VocabularyError
from tokswap.vocabulary.functions import FUNCTIONS, match_function

ROLES = ("eos", "bos", "pad", "sep", "cls", "mask", "unk")
"""Roles, the weightiest first: a token with several roles is matched by the first of them.

The end of text comes first because a model that has learnt to stop must stop: a token that both
opens and closes a text (GPT-2's ``<|endoftext|>``) takes the row of the base's end of text. Where
the base has a table for each role, its embedding is another matter: see :func:`openers`.
"""

STAND_INS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos"}
"""The role that does the same work in encoders and decoders."""


def read_roles(
    files: Mapping[str, Path],
    config: Mapping[str, Any] | None,
    ids: Mapping[str, int],
    text: Collection[int] = (),
) -> dict[str, int]:
    """Read which token plays which role.

    tokenizer_config.json has the first word, special_tokens_map.json the second, and the ids in
    config.json (at any nesting level) the last.

    Args:
        files: Paths of the tokenizer's files by file name.
        config: The model's config.json, or None.
        ids: Ids of all tokens by their strings.
        text: Ids of tokens that are text: no id in config.json gives them a role, because
            libraries write default ids there that have nothing to do with the tokenizer.

    Returns:
        Token id by role; roles that nobody plays are absent.

    Raises:
        VocabularyError: If one of the files is no JSON object.
    """
    roles: dict[str, int] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        said = read_object(files[file]) if file in files else {}
        for role in ROLES:
            token = said.get(f"{role}_token")
            string = token.get("content") if isinstance(token, dict) else token
            if isinstance(string, str) and string in ids:
                roles.setdefault(role, ids[string])
    known = set(ids.values()) - set(text)
    for level in levels(config or {}):
        for role in ROLES:
            value = level.get(f"{role}_token_id")
            number = value[0] if isinstance(value, list) and value else value
            if isinstance(number, int) and number in known:
                roles.setdefault(role, number)
    return roles


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        VocabularyError: If it does not.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VocabularyError(f"{path.name} is not valid ({error}); fetch it again") from error
    if not isinstance(said, dict):
        raise VocabularyError(f"{path.name} is not valid (no JSON object); fetch it again")
    return said


def levels(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List a config and the configs nested in it (text_config and the like), outermost first."""
    inner = [value for value in config.values() if isinstance(value, dict)]
    return [config, *(level for value in inner for level in levels(value))]


def match_special(
    roles: Mapping[str, int],
    strings: Mapping[int, str],
    base_roles: Mapping[str, int],
    base_strings: Mapping[str, int],
    *,
    strings_first: bool = False,
    functions: Mapping[str, Sequence[str]] = FUNCTIONS,
    base_added: Mapping[str, int] | None = None,
) -> dict[int, tuple[int | None, str]]:
    """Match each special token of the donor with a base token: by role, string, then function.

    Args:
        roles: The donor's token id by role.
        strings: Strings of the donor's special tokens by id.
        base_roles: The base's token id by role.
        base_strings: Ids of the base's special tokens by string.
        strings_first: Whether a token of the same string beats one of the same role, as it must
            where both have the same tokenizer and give its tokens different roles.
        functions: Tokens by what they are for; empty to match by role and string alone.
        base_added: Ids of the base's added tokens that are text to its tokenizer; they are matched
            by function too, for many families write ``<tool_call>`` so.

    Returns:
        For each donor id, the base id (None where the base has no counterpart) and the reason.
        A donor's end of text never takes the row of a base token that only opens texts.
    """
    found: dict[int, tuple[int | None, str]] = {}
    eos = roles.get("eos")
    for number, string in strings.items():
        found[number] = (None, "no counterpart")
        kept_from = _only_open(base_roles) if number == eos else set()
        alike = match_function(
            string, functions, {**(base_added or {}), **base_strings}, base_roles
        )
        if alike is not None and alike[0] not in kept_from:
            found[number] = alike
        same = base_strings.get(string)
        if same is not None and same not in kept_from:
            found[number] = (same, "string")
            if strings_first:
                continue
        played = [role for role in ROLES if roles.get(role) == number]
        for role in [*played, *(STAND_INS[role] for role in played if role in STAND_INS)]:
            if role in base_roles and base_roles[role] not in kept_from:
                found[number] = (base_roles[role], f"role {role}")
                break
    return found


def openers(roles: Mapping[str, int], base_roles: Mapping[str, int]) -> dict[int, int]:
    """Find the donor's tokens that open a text and close it too, which the base's do not.

    As input such a token nearly always stands at the beginning, where models park the attention
    that they have no use for; so its embedding is the base's beginning of text, and its head row
    the end. Both at once need a table for each role.

    Returns:
        The base id of the beginning of text, by donor id.
    """
    opens, closes = (
        next((roles[role] for role in names if role in roles), None)
        for names in (("bos", "cls"), ("eos", "sep"))
    )
    begin = base_roles.get("bos", base_roles.get("cls"))
    if opens is None or opens != closes or begin is None or begin not in _only_open(base_roles):
        return {}
    return {opens: begin}


def _only_open(base_roles: Mapping[str, int]) -> set[int]:
    """Return the base tokens that open texts and never close them."""
    opens, closes = (
        {base_roles[role] for role in roles if role in base_roles}
        for roles in (("bos", "cls"), ("eos", "sep"))
    )
    return opens - closes
