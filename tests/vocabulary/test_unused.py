"""Which ids no text ever becomes: by the tokens of small and of real tokenizers."""

from collections.abc import Callable

import pytest

from tokswap.vocabulary.tokens import Vocabulary
from tokswap.vocabulary.unused import RESERVED, unused_ids

RESERVED_TOKENS = [
    "<|reserved_special_token_7|>", "<unused99>", "[unused3]", "[control_12]", "<SPECIAL_14>",
    "<|extra_0|>", "<|dummy_5|>", "<|placeholder1|>", "<extra_id_7>", "<reserved_2>",
]  # fmt: skip
OTHERS = [
    "<|endoftext|>", "<s>", "<0x41>", "<|im_start|>", "[INST]", "<|start_header_id|>", "unused3",
    "<|fim_prefix|>", "[MASK]", "<h1>", "reserved_2", "<special>",
]  # fmt: skip


@pytest.mark.parametrize("token", RESERVED_TOKENS)
def test_reserved_tokens_are_known_by_their_names(token: str) -> None:
    assert RESERVED.fullmatch(token)


@pytest.mark.parametrize("token", OTHERS)
def test_other_tokens_are_not_reserved(token: str) -> None:
    assert not RESERVED.fullmatch(token)


def test_gaps_padding_and_reserved_tokens(make: Callable[..., Vocabulary]) -> None:
    table = {"a": 0, "<unused0>": 1, "<unused1>": 2, "b": 5}
    vocabulary = make(table, special=["<unused0>", "<unused1>"], pad="<unused1>")
    assert unused_ids(vocabulary, 8) == [1, 3, 4, 6, 7]  # <unused1> has got a role
    assert unused_ids(vocabulary, 2) == [1]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("llama3", 240, 260), ("mistral-nemo", 900, 1000), ("gpt2", 0, 0), ("llama2", 0, 0)],
)
def test_real_tokenizers(
    name: str, least: int, most: int, real: Callable[[str], Vocabulary]
) -> None:
    vocabulary = real(name)
    found = unused_ids(vocabulary, len(vocabulary))
    assert least <= len(found) <= most, [vocabulary.show(n) for n in found[:5]]
