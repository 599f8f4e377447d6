"""How many rows the new vocabulary gets."""

import json
import shutil
from pathlib import Path

import pytest

from tokswap.checkpoint.source import Checkpoint
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import new_rows
from tokswap.recipe_parts import TokenizerPart

TOKENS = 4096


@pytest.fixture(params=["bare", "padded", "nested", "short", "silent"])
def donor(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Checkpoint, int]:
    """A donor, and the rows that it stores."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-mistral" / file, tmp_path)
    said, rows = {
        "bare": (None, TOKENS),
        "padded": ({"vocab_size": 4160}, 4160),
        "nested": ({"text_config": {"vocab_size": 4224}}, 4224),
        "short": ({"vocab_size": 4000}, TOKENS),  # tokens beyond its rows need rows all the same
        "silent": ({"model_type": "llama"}, TOKENS),
    }[request.param]
    if said:
        (tmp_path / "config.json").write_text(json.dumps(said))
    return Checkpoint.open(str(tmp_path)), rows


def test_as_many_rows_as_the_donor_stores(donor: tuple[Checkpoint, int]) -> None:
    checkpoint, rows = donor
    assert new_rows(checkpoint) == new_rows(checkpoint, TokenizerPart(size="donor")) == rows


def test_tight_is_up_to_the_last_token(donor: tuple[Checkpoint, int]) -> None:
    assert new_rows(donor[0], TokenizerPart(size="tight")) == TOKENS


def test_a_multiple_rounds_up_either(donor: tuple[Checkpoint, int]) -> None:
    checkpoint, rows = donor
    for multiple in (1, 2, 100, 5000):
        tight = new_rows(checkpoint, TokenizerPart(size="tight", pad_to_multiple_of=multiple))
        assert tight % multiple == 0
        assert TOKENS <= tight < TOKENS + multiple
        stored = new_rows(checkpoint, TokenizerPart(pad_to_multiple_of=multiple))
        assert stored % multiple == 0
        assert rows <= stored < rows + multiple


def test_there_may_be_a_least(donor: tuple[Checkpoint, int]) -> None:
    checkpoint, rows = donor
    for least in (0, TOKENS - 1, 9999):
        assert new_rows(checkpoint, least=least) == max(rows, least)
        tight = TokenizerPart(size="tight", pad_to_multiple_of=100)
        assert new_rows(checkpoint, tight, least) == -(-max(TOKENS, least) // 100) * 100
