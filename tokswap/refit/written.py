"""Text that the base writes itself: it knows what it would read, of whatever domain.

Sequences are sampled from what stands before a text, at temperature 1, for that is the base's own
distribution; where a base has nothing that stands there, they begin with its most likely tokens.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tokswap.errors import RefitError
from tokswap.evaluation.load import position_limit, quiet
from tokswap.evaluation.texts import Text
from tokswap.evaluation.tokens import start_of
from tokswap.pair import Pair
from tokswap.progress import bar
from tokswap.refit.ahead import OWN
from tokswap.vocabulary.tokens import Vocabulary

TOGETHER, LENGTH = 64, 256
"""Sequences that are written at once, and tokens of each."""


def write(base: nn.Module, pair: Pair, tokens: int, *, device: str, seed: int) -> list[str]:
    """Let the base write.

    Args:
        base: The loaded base.
        pair: The base and the donor.
        tokens: The base's tokens to write, at least.
        device: Where the base is.
        seed: Of the sampling.

    Returns:
        A document for each sequence.

    Raises:
        RefitError: If the base cannot write.
    """
    vocabulary = pair.base.vocabulary
    start = start_of(vocabulary)
    limit = position_limit(base.config)
    length = min(LENGTH, (limit or LENGTH + 1) - 1)
    documents: list[str] = []
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), bar("the base writes text", tokens) as advance:
        torch.manual_seed(seed)
        left = tokens
        while left > 0:
            together = max(1, min(TOGETHER, -(-left // length)))
            ids = _write(base, start, together, length, device, pair.base.name)
            documents += [_spelt(row, vocabulary) for row in ids]
            done = sum(len(row) for row in ids)
            advance(min(done, left))
            left -= max(done, 1)
    return documents


def as_text(documents: list[str]) -> Text:
    """Give what was written as a text."""

    def read() -> Iterator[Iterator[str]]:
        return (iter([document]) for document in documents if document.strip())

    return Text(OWN, read, sum(len(document.encode()) for document in documents))


def _write(
    base: nn.Module, start: int | None, together: int, length: int, device: str, name: str
) -> list[list[int]]:
    """Sample sequences.

    Raises:
        RefitError: If the base cannot.
    """
    before = torch.full((together, 1), 0 if start is None else start, device=device)
    if start is None:
        before = torch.arange(together, device=device)[:, None]
    model: Any = base
    try:
        with quiet(), torch.no_grad():
            found = model.generate(
                input_ids=before,
                attention_mask=torch.ones_like(before),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=length,
                min_new_tokens=min(64, length),
                pad_token_id=0 if start is None else start,
            )
    except Exception as error:  # each architecture fails by exceptions of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RefitError(
            f"{name} cannot write text ({reason}); give a text to refit to instead"
        ) from error
    return [row[1:] for row in found.tolist()]


def _spelt(ids: list[int], vocabulary: Vocabulary) -> str:
    """Spell tokens as text, up to the end of the text where one stands."""
    ends = {vocabulary.roles.get("eos"), vocabulary.roles.get("bos")}
    data = b""
    for token in ids:
        if token in ends:
            break
        if token < len(vocabulary.spelling) and token not in vocabulary.special:
            data += vocabulary.spelling[token] or b""
    return data.decode(errors="ignore")
