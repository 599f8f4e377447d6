"""Vocabulary tables against their tokenizer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tokswap.checkpoint import tables
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import check_tokens, load_table
from tokswap.errors import CheckpointError

Build = Callable[..., Checkpoint]


def files(table: torch.Tensor, added: int = 0, **more: Any) -> dict[str, Any]:
    """Twelve ordinary tokens, then some added ones, and a table."""
    model = {"type": "BPE", "vocab": {chr(97 + n): n for n in range(12)}}
    extra = [{"id": 12 + n, "content": f"<{n}>", "special": True} for n in range(added)]
    tokenizer = {"model": model, "added_tokens": extra}
    return {"model__safetensors": {"embed": table}, "tokenizer__json": tokenizer, **more}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(14, 3), (14,)])
@pytest.mark.parametrize("block", [1, 5, 100])
def test_bad_rows_are_found_in_every_block(
    checkpoint: Build, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, value: float,
    shape: tuple[int, ...], block: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", block)
    table = torch.ones(shape, dtype=dtype)
    found = checkpoint(**files(table))
    assert torch.equal(load_table(found, "embed"), table)
    table[[0, 4, 11]] = value
    found = checkpoint(**files(table))
    message = r"in 3 of 12 tokens' rows: 0 \('a'\), 4 \('e'\), 11 \('l'\); .*fetch it again"
    with pytest.raises(CheckpointError, match=message):
        load_table(found, "embed")


def test_rows_without_a_token_are_let_be(checkpoint: Build) -> None:
    table = torch.ones(14, 3)
    table[12:] = float("nan")
    load_table(checkpoint(**files(table)), "embed")
    with pytest.raises(CheckpointError, match=r"in 1 of 13 tokens' rows: 12 \(<0>\); "):
        load_table(checkpoint(**files(table, added=1)), "embed")


def test_some_bad_rows_are_named_of_many(checkpoint: Build) -> None:
    table = torch.full((14, 3), float("nan"))
    with pytest.raises(CheckpointError, match=r"in 12 of 12 tokens' rows: .*4 \('e'\) …; the file"):
        load_table(checkpoint(**files(table)), "embed")


@pytest.mark.parametrize(("rows", "beyond"), [(12, 0), (14, 0), (11, 1), (3, 9)])
@pytest.mark.parametrize("added", [0, 2])
def test_every_ordinary_token_has_a_row(
    checkpoint: Build, rows: int, beyond: int, added: int
) -> None:
    found = checkpoint(**files(torch.ones(rows, 3), added=added))
    if not beyond:
        check_tokens(found, "embed")
        return
    message = f"has {beyond} tokens without a row, for embed has {rows} rows; give the tokenizer"
    with pytest.raises(CheckpointError, match=message):
        check_tokens(found, "embed")


def test_tokens_may_be_counted_by_another_dimension(checkpoint: Build) -> None:
    table = torch.ones(3, 14)
    assert torch.equal(load_table(checkpoint(**files(table)), "embed", axis=1), table)
    table[0, 4] = float("nan")
    with pytest.raises(CheckpointError, match=r"in 1 of 12 tokens' rows: 4 \('e'\); "):
        load_table(checkpoint(**files(table)), "embed", axis=1)
