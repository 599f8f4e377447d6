# ruff: noqa: RUF001 - DeepSeek writes its tokens with full-width bars
"""Special tokens of different families that are for the same thing."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tokswap.vocabulary.align import Alignment, Kind, align
from tokswap.vocabulary.functions import FUNCTIONS, STAND_INS, with_tokens
from tokswap.vocabulary.special import ROLES
from tokswap.vocabulary.tokens import Vocabulary

Make = Callable[..., Vocabulary]
Load = Callable[[str], Vocabulary]

CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>")
PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>")
MISTRAL = ("[INST]", "[/INST]")
QWEN_CODE = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
STARCODER = ("<fim_prefix>", "<fim_middle>", "<fim_suffix>")
CODE_LLAMA = ("▁<PRE>", "▁<MID>", "▁<SUF>")
DEEPSEEK_CODE = ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>")


def family(make: Make, tokens: tuple[str, ...], **changes: object) -> Vocabulary:
    roles = {"bos": "<s>", "eos": "</s>"}
    special = [*roles.values(), *tokens]
    return make(["x", *special], **({"special": special} | roles | changes))


def pairs(base: Vocabulary, donor: Vocabulary, **changes: object) -> dict[str, str | None]:
    sizes = {"base_rows": len(base), "rows": len(donor)} | changes
    found: Alignment = align(base, donor, **sizes)  # type: ignore[arg-type]
    return {
        donor.strings[n]: base.strings[found.source[n]] if found.source[n] >= 0 else None
        for n in found.reasons
        if donor.strings[n] not in {"<s>", "</s>"}
    }


@pytest.mark.parametrize(
    ("base", "donor", "sources"),
    [
        (LLAMA3, CHATML, ("<|start_header_id|>", "<|eot_id|>")),
        (CHATML, LLAMA3, ("<|im_start|>", None, "<|im_end|>")),
        (GEMMA, CHATML, GEMMA),
        (CHATML, GEMMA, CHATML),
        (LLAMA3, MISTRAL, ("<|start_header_id|>", "<|end_header_id|>")),
        (MISTRAL, LLAMA3, ("[INST]", "[/INST]", "</s>")),
        (GEMMA, MISTRAL, ("<start_of_turn>", "<start_of_turn>")),
        (PHI, DEEPSEEK, ("<|user|>", "<|assistant|>")),
        (DEEPSEEK, PHI, ("<｜User｜>", *DEEPSEEK, "</s>")),
        (PHI, MISTRAL, ("<|user|>", "<|assistant|>")),
        (PHI, CHATML, ("<|user|>", "<|end|>")),
        (STARCODER, QWEN_CODE, STARCODER),
        (CODE_LLAMA, QWEN_CODE, CODE_LLAMA),
        (QWEN_CODE, DEEPSEEK_CODE, QWEN_CODE),
        (QWEN_CODE, CHATML, (None, "</s>")),
    ],
)
def test_families_meet_by_what_their_tokens_are_for(
    make: Make, base: tuple[str, ...], donor: tuple[str, ...], sources: tuple[str | None, ...]
) -> None:
    found = pairs(family(make, base), family(make, donor))
    assert found == dict(zip(donor, sources, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_any_two_families_meet_function_by_function(make: Make, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - no secret
    base, donor = ([draw.choice(tokens) for tokens in FUNCTIONS.values()] for _ in range(2))
    draw.shuffle(order := list(range(len(donor))))
    made = [family(make, tuple(tokens)) for tokens in (base, [donor[n] for n in order])]
    assert pairs(*made) == dict(zip(donor, base, strict=True))


def test_role_beats_string_beats_function(make: Make) -> None:
    base = family(make, ("<|im_start|>", "<|start_header_id|>", "<|eot_id|>", "<|im_end|>"))
    donor = family(make, (*CHATML, "<|eot_id|>"), eos="<|im_end|>")
    found = align(base, donor, base_rows=len(base), rows=len(donor))
    reasons = {donor.strings[n]: reason for n, reason in found.reasons.items()}
    assert reasons["<|im_end|>"] == "role eos"
    assert reasons["<|im_start|>"] == reasons["<|eot_id|>"] == "string"
    assert pairs(base, donor)["<|im_end|>"] == "</s>"


def test_the_reason_names_the_function_and_what_stands_in(make: Make) -> None:
    base, donor = family(make, MISTRAL), family(make, ("<|user|>", "<|im_start|>"))
    found = align(base, donor, base_rows=len(base), rows=len(donor))
    assert {donor.strings[n]: r for n, r in found.reasons.items() if n > 2} == {
        "<|user|>": "function user_start",
        "<|im_start|>": "function turn_start, nearest user_start",
    }


def test_added_tokens_that_are_text_have_functions_too(make: Make) -> None:
    plain = {"<tool_call>": 1, "</tool_call>": 2}
    qwen = make({"x": 0, **plain}, added=plain)
    mistral = make(["x", "[TOOL_CALLS]"], special=["[TOOL_CALLS]"])
    assert pairs(mistral, qwen) == {"<tool_call>": "[TOOL_CALLS]"}
    assert pairs(qwen, mistral) == {"[TOOL_CALLS]": "<tool_call>"}
    found = align(mistral, qwen, base_rows=2, rows=3)
    assert found.kind.tolist() == [Kind.SHARED, Kind.SPECIAL, Kind.MISSING]


def test_text_that_looks_like_a_special_token_has_no_function(make: Make) -> None:
    base = family(make, ("<|eot_id|>",))
    donor = make(["<|im_end|>", "x"])
    assert pairs(base, donor) == {}
    assert pairs(make(["<|eot_id|>", "x"]), family(make, CHATML)) == dict.fromkeys(CHATML)


def test_tokens_without_a_row_are_not_taken(make: Make) -> None:
    base, donor = make(["x", *CHATML], special=CHATML), family(make, GEMMA)
    assert pairs(base, donor) == dict(zip(GEMMA, CHATML, strict=True))
    assert pairs(base, donor, base_rows=2) == {"<start_of_turn>": "<|im_start|>", GEMMA[1]: None}


def test_the_end_of_text_never_opens_by_its_function(make: Make) -> None:
    base = make(["x", "<|eot_id|>"], special=["<|eot_id|>"], bos="<|eot_id|>")
    donor = make(["x", "<|im_end|>"], special=["<|im_end|>"], eos="<|im_end|>")
    assert pairs(base, donor) == {"<|im_end|>": None}


def test_a_recipes_tokens_come_first_and_have_no_other_function(make: Make) -> None:
    base = family(make, ("<|im_start|>", "<|my_turn|>", "<|eot_id|>"))
    donor = family(make, ("<start_of_turn>", "<|im_end|>"))
    known = with_tokens({"turn_start": ["<|my_turn|>", "<|im_end|>"]})
    assert pairs(base, donor, functions=known) == dict.fromkeys(
        ("<start_of_turn>", "<|im_end|>"), "<|my_turn|>"
    )
    assert pairs(base, donor, functions={}) == dict.fromkeys(("<start_of_turn>", "<|im_end|>"))
    assert with_tokens({}) == FUNCTIONS


def test_no_token_has_two_functions() -> None:
    count = Counter(token for tokens in FUNCTIONS.values() for token in tokens)
    assert {token for token, times in count.items() if times > 1} == set()


def test_what_stands_in_is_a_function_or_a_role() -> None:
    named = {name for names in STAND_INS.values() for name in names}
    assert set(STAND_INS) <= set(FUNCTIONS)
    assert named <= set(FUNCTIONS) | set(ROLES)


def test_real_families_meet(real: Load) -> None:
    assert pairs(real("llama3"), real("qwen")) == {
        "<|endoftext|>": "<|end_of_text|>",
        "<|im_start|>": "<|start_header_id|>",
        "<|im_end|>": "<|eot_id|>",
    }
    found = pairs(real("mistral-v3"), real("llama3"))
    shown = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>")
    assert [found[token] for token in shown] == ["<s>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
    assert found["<|reserved_special_token_0|>"] is None
