"""Where chat templates end a turn, and which of their marks a tokenizer cuts up."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tokswap.checkpoint.turns import cut_marks, is_one, read_turns, special_strings
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim }}"
    "<|eot_id|>{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only users and assistants') }}{% endif %}{% endfor %}"
)
NEXT_TURN_ENDS = (
    "{% for m in messages %}{{ '<|start_header_id|>' if m.role == 'user' else '<|eom_id|>' }}"
    "{{ m.content }}\n{% endfor %}"
)
LAST_DIFFERS = (
    "{% for m in messages %}{{ m.content }}"
    "{{ '<|eom_id|>' if loop.last else '<|eot_id|>' }}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
GENERATION = (
    "{% for m in messages %}{% generation %}{{ m.content }}<|im_end|>"
    "{% endgeneration %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="session")
def real(shared: Path) -> Callable[[str], Vocabulary]:
    @cache
    def load(name: str) -> Vocabulary:
        folder = shared / "tokenizers" / name
        return load_vocabulary({path.name: path for path in folder.iterdir()}, name=name)

    return load


@pytest.mark.parametrize(
    ("donor", "template", "end"),
    [
        ("qwen", CHATML, "<|im_end|>"),
        ("qwen", PARTS, "<|im_end|>"),
        ("qwen", GENERATION, "<|im_end|>"),
        ("llama3", LLAMA3, "<|eot_id|>"),
        ("llama3", NEXT_TURN_ENDS, "<|start_header_id|>"),
        ("llama3", LAST_DIFFERS, "<|eom_id|>"),
        ("mistral-v3", MISTRAL, "</s>"),
        ("llama2", MISTRAL, "</s>"),
        ("qwen", PLAIN, None),
        ("llama2", CHATML, None),  # <|im_end|> is no token there
    ],
)
def test_the_end_of_a_turn(
    real: Callable[[str], Vocabulary], donor: str, template: str, end: str | None
) -> None:
    vocabulary = real(donor)
    turns = read_turns(template, vocabulary, {"bos_token": "<s>", "eos_token": "</s>"})
    assert turns.fault is None
    assert turns.end == (None if end is None else vocabulary.by_string[end])


def test_everything_that_is_written_is_seen(real: Callable[[str], Vocabulary]) -> None:
    written = read_turns(CHATML, real("qwen"), {}).written
    assert "<|im_start|>system\nTHEINSTRUCTION" in written
    assert written.endswith("<|im_start|>assistant\n")
    # An instruction that a template refuses is no fault of it.
    assert "THEINSTRUCTION" not in read_turns(MISTRAL, real("llama2"), {}).written


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ bos_token + messages[0].content }}", "'bos_token' is undefined"),
        ("{{ raise_exception('tools are needed') }}", "tools are needed"),
        ("{% for %}", "Expected an expression"),
        ("{{ messages[0].content }}", "it leaves out what is said"),
        ("{{ messages.__class__.__mro__ }}", "it leaves out what is said|unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ],
)
def test_a_template_that_does_not_work(
    real: Callable[[str], Vocabulary], template: str, fault: str
) -> None:
    turns = read_turns(template, real("gpt2"), {})
    assert (turns.written, turns.end) == ("", None)
    assert re.search(fault, turns.fault or "")


def test_marks_that_are_cut_up(real: Callable[[str], Vocabulary]) -> None:
    text = "<|im_start|>user\n<s>[INST] <think> a <|b| [/INST]</s><start_of_turn><|im_start|>"
    assert cut_marks(text, real("qwen")) == ["<s>", "</s>", "<start_of_turn>"]
    assert cut_marks(text, real("llama2")) == ["<|im_start|>", "<start_of_turn>"]
    said = cut_marks(text, real("qwen"), others=["[INST]", "[TOOL_CALLS]"])
    assert said == ["<s>", "</s>", "<start_of_turn>", "[INST]"]
    assert cut_marks(text, real("mistral-v3"), others=["[INST]"]) == [
        "<|im_start|>",
        "<start_of_turn>",
    ]


def test_the_unknown_is_no_token_of_its_own(real: Callable[[str], Vocabulary]) -> None:
    assert is_one("<unk>", real("llama2"))
    assert not is_one("<|x|>", real("llama2"))
    assert not is_one("\u0e00", real("gpt2"))


def test_marks_with_their_ids(real: Callable[[str], Vocabulary]) -> None:
    assert special_strings(real("qwen")) == {
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645,
    }  # fmt: skip


def test_the_longest_mark_is_the_one_that_is_read(real: Callable[[str], Vocabulary]) -> None:
    marks = ["<e>", "<e><f>", "<e><f><g>"]
    added = [{"id": n, "content": mark} for n, mark in enumerate(marks)]
    vocabulary = real("gpt2")
    strings = (*marks, *vocabulary.strings[len(marks) :])
    vocabulary = replace(vocabulary, strings=strings, specification={"added_tokens": added})
    template = "{% for m in messages %}{{ m.content }}<e><f>{% endfor %}"
    assert read_turns(template, vocabulary, {}).end == 1
