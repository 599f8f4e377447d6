"""What a chat template writes: the token that ends a turn, and tokens that would be cut up.

Templates are programs. They are run by transformers, in the same sandbox as for any chat with the
model, over a conversation whose texts are known, and only what they write is looked at.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokswap.vocabulary.tokens import CONTROL, Vocabulary

QUESTIONS = ("FIRSTQUESTION", "SECONDQUESTION")
ANSWERS = ("FIRSTANSWER", "SECONDANSWER")
SYSTEM = "THEINSTRUCTION"

CONTROL_IN_TEXT = re.compile(
    r"<\|[^|<>\s'\"{}]+\|>|<｜[^｜<>\s'\"{}]+｜>|</?[a-z]+(?:_[a-z]+)+>|</?s>"  # noqa: RUF001
)
"""What can only be meant as one token: <|im_start|>, <start_of_turn>, </s>.

Not [INST] and <think>, which some models read as plain text.
"""


@dataclass(frozen=True)
class Turns:
    """What a chat template writes.

    Attributes:
        written: All that it wrote, over several conversations; empty where it failed.
        end: Id of the token that ends the model's turn, or None where no special token does.
        fault: Why it could not be run, or None.
    """

    written: str
    end: int | None
    fault: str | None = None


def read_turns(template: str, vocabulary: Vocabulary, tokens: Mapping[str, str]) -> Turns:
    """Run a chat template over a short conversation and read its marks.

    Args:
        template: The text of the template.
        vocabulary: The vocabulary that will read what it writes.
        tokens: The tokenizer's special tokens by the names that templates know them by
            (``bos_token``).
    """
    fault: str | None = "it leaves out what is said"
    for form in (_as_text, _as_parts):
        chat = _conversation(form)
        try:
            written = _render(template, chat, tokens)
        except Exception as error:  # a template raises what it likes, and jinja2 its own
            fault = " ".join(str(error).split())[:200] or type(error).__name__
            continue
        if all(answer in written for answer in ANSWERS):
            others = list(_variants(template, form, tokens))
            return Turns("\n".join([written, *others]), _end(written, vocabulary))
    return Turns("", None, fault)


def _variants(template: str, form: Any, tokens: Mapping[str, str]) -> Iterator[str]:
    """Run it with an instruction before, and up to where the model shall answer."""
    chat = _conversation(form)
    for messages, prompt in (
        ([{"role": "system", "content": form(SYSTEM)}, *chat], False),
        (chat[:-1], True),
    ):
        try:
            yield _render(template, messages, tokens, prompt)
        except Exception:  # noqa: S112 - some know no instruction, which is no fault
            continue


def _as_text(text: str) -> Any:
    return text


def _as_parts(text: str) -> Any:
    return [{"type": "text", "text": text}]


def _conversation(form: Any) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": form(text)}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
        for role, text in (("user", question), ("assistant", answer))
    ]


def _render(
    template: str, messages: list[dict[str, Any]], tokens: Mapping[str, str], prompt: bool = False
) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=prompt, **tokens
    )
    return str(rendered[0])


def _end(written: str, vocabulary: Vocabulary) -> int | None:
    """Return the special token after the last answer or, where nothing is there, the first one.

    Some models end their turn with the mark of the next one.
    """
    marks = special_strings(vocabulary)
    for answer in reversed(ANSWERS):
        rest = written.rpartition(answer)[2].lstrip()
        found = max((mark for mark in marks if rest.startswith(mark)), key=len, default=None)
        if found is not None:
            return marks[found]
    return None


def special_strings(vocabulary: Vocabulary) -> dict[str, int]:
    """List the tokens that are matched in a text as they stand and look like marks, with ids."""
    added = vocabulary.added_ids.items()
    marks = {string: number for string, number in added if CONTROL.fullmatch(string)}
    return marks | dict(vocabulary.special_ids)


def cut_marks(text: str, vocabulary: Vocabulary, others: Collection[str] = ()) -> list[str]:
    """List the marks in a text that a tokenizer does not read as one token.

    Args:
        text: What a chat template writes, or the template itself.
        vocabulary: The vocabulary that will read it.
        others: Further strings that are meant as one token, such as the base's special tokens.
    """
    named = [mark for mark in others if mark in text]
    marks = dict.fromkeys([*CONTROL_IN_TEXT.findall(text), *named])
    return [mark for mark in marks if not is_one(mark, vocabulary)]


def is_one(mark: str, vocabulary: Vocabulary) -> bool:
    """Tell whether a tokenizer reads a mark as the one token that is written so."""
    ids: Sequence[int] = vocabulary.backend.encode(mark, add_special_tokens=False).ids
    return [vocabulary.strings[number] for number in ids] == [mark]
