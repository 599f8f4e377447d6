"""Keeping the base's beginning of text with a donor that has none: an edit of the donor's files.

Many models park the attention that they have no use for on the first token of a text. Where that
was the beginning of text, and the donor's tokenizer puts none, the base loses it. The edit adds the
base's token to the donor's tokenizer and puts it before every text; nothing else changes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokswap.errors import RecipeError
from tokswap.vocabulary.special import read_object
from tokswap.vocabulary.tokens import Vocabulary, build_tokenizer

NAMES = ("<|begin_of_text|>", "<|bos|>")
"""Names for the token where the base's is text to the donor: Qwen has ``<s>`` among its merges."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
TEMPLATE_MARK = "{{ bos_token }}{# kept from the base #}\n"
"""Before a chat template. The line break goes with the comment, so the rest is rendered as before,
down to blocks that stand at the beginning of their line."""


@dataclass(frozen=True)
class KeptBos:
    """A beginning of text that was added to a donor.

    Attributes:
        token: The token's string.
        id: Its id in the new vocabulary.
        base_id: Its id in the base.
        contents: The edited files' contents by file name.
    """

    token: str
    id: int
    base_id: int
    contents: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: the token, both ids and the names of the edited files."""
        files = sorted(self.contents)
        return {"token": self.token, "id": self.id, "base_id": self.base_id, "files": files}


def opening(vocabulary: Vocabulary) -> list[int]:
    """Ids that a tokenizer puts before every text; empty where it puts none."""
    probe = "a"
    bare = vocabulary.backend.encode(probe, add_special_tokens=False).ids
    full = vocabulary.backend.encode(probe, add_special_tokens=True).ids
    starts = range(len(full) - len(bare) + 1)
    return next((list(full[:n]) for n in starts if full[n : n + len(bare)] == bare), [])


def keep_bos(base: Vocabulary, donor: Vocabulary, files: Mapping[str, Path]) -> KeptBos:
    """Edit a donor's tokenizer so that it begins every text with the base's beginning of text.

    Args:
        base: The base's vocabulary.
        donor: The donor's vocabulary.
        files: Paths of the donor's tokenizer files by file name.

    Returns:
        The edit; nothing is written.

    Raises:
        RecipeError: If the base has no beginning of text, or the donor begins texts already, or
            has tokens of all names that it could have, or ids that cannot be added to.
    """
    where = "tokenizer.bos: keep"
    if "bos" not in base.roles:
        raise RecipeError(
            f"{where} has nothing to keep, for {base.name!r} has no beginning of text; leave it out"
        )
    if begins := opening(donor):
        token = " ".join(donor.show(number) for number in begins)
        raise RecipeError(
            f"{where} is for a donor that begins texts with no token of its own, and "
            f"{donor.name!r} begins them with {token}; leave it out"
        )
    base_id = base.roles["bos"]
    names = (base.strings[base_id], *NAMES)
    free = [name for name in names if _free(base, donor, name)]
    if not free:
        raise RecipeError(
            f"{where} needs a token of the name {' or '.join(names)}, and {donor.name!r} has all "
            "of them for something else; leave it out"
        )
    token = free[0]
    number = donor.by_string.get(token, len(donor))
    specification = dict(donor.specification)
    if number == len(donor):
        entry = {"id": number, "content": token, **_flags(base, base_id), "special": True}
        specification["added_tokens"] = [*(specification.get("added_tokens") or []), entry]
    processor = specification.get("post_processor")
    specification["post_processor"] = _beginning_with(processor, token, number)
    if not _numbered(specification, donor.name, token, number):
        # Ids with gaps: the library numbers an added token otherwise, unless the model has it.
        model = specification["model"]
        if not isinstance(model["vocab"], dict):
            raise RecipeError(
                f"{where} cannot number {token} in the tokenizer of {donor.name!r}, where two "
                "tokens have one id; leave it out"
            )
        specification["model"] = {**model, "vocab": {**model["vocab"], token: number}}
    contents = _beside(files, token, number, _flags(base, base_id))
    contents["tokenizer.json"] = _json(specification)
    return KeptBos(token, number, base_id, contents)


def _free(base: Vocabulary, donor: Vocabulary, name: str) -> bool:
    """Tell whether a token of this name may begin the donor's texts.

    A special token of the donor may; its end of text only where it is the base's too, as in GPT-2.
    """
    number = donor.by_string.get(name)
    if number is None:
        return True
    closes = donor.roles.get("eos") == number
    same = base.roles.get("eos") == base.roles["bos"]
    return number in donor.special and (same or not closes)


def _flags(base: Vocabulary, base_id: int) -> dict[str, bool]:
    added: list[dict[str, Any]] = base.specification.get("added_tokens") or []
    token = base.strings[base_id]
    said = next((entry for entry in added if entry["content"] == token), {})
    return {flag: bool(said.get(flag, False)) for flag in FLAGS}


def _numbered(specification: Mapping[str, Any], name: str, token: str, number: int) -> bool:
    """Tell whether the tokenizers library gives a token the id that is meant for it."""
    return build_tokenizer(specification, name).token_to_id(token) == number


def _beginning_with(processor: dict[str, Any] | None, token: str, number: int) -> dict[str, Any]:
    """Compose a post-processor with one that puts a token before every text.

    A template takes the token in, for the library breaks down over two templates in a row.
    """
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    known = {token: {"id": token, "ids": [number], "tokens": [token]}}
    if processor is not None and processor["type"] == "TemplateProcessing":
        return {
            **processor,
            "single": [first, *processor["single"]],
            "pair": [first, *processor["pair"]],
            "special_tokens": {**processor["special_tokens"], **known},
        }
    text, second = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    template = {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, second],
        "special_tokens": known,
    }
    if processor is None:
        return template
    if processor["type"] != "Sequence":
        return {"type": "Sequence", "processors": [processor, template]}
    parts = list(processor["processors"])
    places = [n for n, part in enumerate(parts) if part["type"] == "TemplateProcessing"]
    if places:
        parts[places[-1]] = _beginning_with(parts[places[-1]], token, number)
    else:
        parts.append(template)
    return {**processor, "processors": parts}


def _beside(
    files: Mapping[str, Path], token: str, number: int, flags: Mapping[str, bool]
) -> dict[str, str]:
    """Edit what lies beside tokenizer.json: the role, the list of tokens, the chat templates."""
    contents = {}
    said = _read(files, "tokenizer_config.json")
    said |= {"bos_token": token, "add_bos_token": True}
    if "added_tokens_decoder" in said:
        entry = {"content": token, **flags, "special": True}
        said["added_tokens_decoder"] = {**said["added_tokens_decoder"], str(number): entry}
    if said.get("chat_template"):
        said["chat_template"] = _with_bos(said["chat_template"])
    contents["tokenizer_config.json"] = _json(said)
    if "special_tokens_map.json" in files:
        said = _read(files, "special_tokens_map.json") | {"bos_token": token}
        contents["special_tokens_map.json"] = _json(said)
    if "added_tokens.json" in files:
        contents["added_tokens.json"] = _json(_read(files, "added_tokens.json") | {token: number})
    if "chat_template.jinja" in files:
        template = files["chat_template.jinja"].read_text(encoding="utf-8")
        contents["chat_template.jinja"] = _with_bos(template)
    for name in files:
        if name.endswith(".jinja") and "/" in name:
            contents[name] = _with_bos(files[name].read_text(encoding="utf-8"))
    if "chat_template.json" in files:
        said = _read(files, "chat_template.json")
        said["chat_template"] = _with_bos(said.get("chat_template"))
        contents["chat_template.json"] = _json(said)
    return contents


def _with_bos(template: Any) -> Any:
    """Let a chat template, or each of a list of named ones, write the token first.

    Chats are tokenised without the post-processor, so a template has to write it.
    """
    if isinstance(template, list):
        return [{**item, "template": _with_bos(item.get("template"))} for item in template]
    if isinstance(template, str) and "bos_token" not in template:
        return TEMPLATE_MARK + template
    return template


def _read(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    return read_object(files[name]) if name in files else {}


def _json(said: Mapping[str, Any]) -> str:
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"
