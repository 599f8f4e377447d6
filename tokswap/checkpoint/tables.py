"""Vocabulary tables against their tokenizer: tokens without a row, rows without numbers."""

from typing import TYPE_CHECKING

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_ONCE = 8192
NAMED = 5
"""Rows that are named in the message."""


def check_tokens(checkpoint: Checkpoint, name: str) -> None:
    """Check that every token of the tokenizer's model has a row.

    Added tokens beyond the rows are common (Gemma 3, CodeLlama) and do no harm: they are in no
    text unless a template puts them there.

    Args:
        checkpoint: The model with its tokenizer.
        name: Stored name of its embedding.

    Raises:
        CheckpointError: If other tokens have none: then the tokenizer is another model's.
    """
    vocabulary, rows = checkpoint.vocabulary, checkpoint.info(name).shape[0]
    beyond = [s for s in vocabulary.strings[rows:] if s and s not in vocabulary.added_ids]
    if beyond:
        raise CheckpointError(
            f"{checkpoint.name}: its tokenizer has {len(beyond)} tokens without a row, for {name} "
            f"has {rows} rows; give the tokenizer that belongs to the model"
        )


def load_table(checkpoint: Checkpoint, name: str, axis: int = 0) -> "Tensor":
    """Load a vocabulary tensor and check that the rows of all tokens hold numbers.

    Rows without a token are let be: no new row is made of them.

    Args:
        checkpoint: Where it is stored.
        name: Its stored name; a tensor with one entry for each token.
        axis: The dimension that counts the tokens.

    Returns:
        The tensor as it is stored.

    Raises:
        CheckpointError: If a token's row holds NaN or an infinite number; the message names some.
    """
    table = checkpoint.load(name)
    entries = table.movedim(axis, 0)
    tokens = min(len(entries), len(checkpoint.vocabulary))
    bad: list[int] = []
    for start in range(0, tokens, ROWS_AT_ONCE):
        rows = entries[start : min(start + ROWS_AT_ONCE, tokens)]
        # One pass tells that all is well; NaN is the least and the most of what it is among.
        if rows.numel() and all(end.isfinite() for end in rows.aminmax()):
            continue
        finite = rows.isfinite().reshape(len(rows), -1).all(dim=1)
        bad += [start + int(place) for place in (~finite).nonzero()[:, 0]]
    if bad:
        shown = ", ".join(f"{n} ({checkpoint.vocabulary.show(n)})" for n in bad[:NAMED])
        raise CheckpointError(
            f"{checkpoint.name}: {name} holds NaN or infinite numbers in {len(bad)} of "
            f"{tokens} tokens' rows: {shown}{' …' * (len(bad) > NAMED)}; the file is damaged or "
            "its training broke: fetch it again, or give another checkpoint"
        )
    return table
