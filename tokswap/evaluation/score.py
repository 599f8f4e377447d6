"""Bits per byte of a causal language model: one figure for models of any tokenizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tokswap import progress
from tokswap.errors import EvaluationError
from tokswap.evaluation.figures import Count, GroupScore, Score, Tally, TextScore, perplexity
from tokswap.evaluation.load import position_limit
from tokswap.evaluation.losses import Losses
from tokswap.evaluation.reading import Reading, plain_reading
from tokswap.evaluation.streaming import stream_ids
from tokswap.evaluation.texts import Text
from tokswap.evaluation.windows import Window, batches, cut_windows

__all__ = ["GroupScore", "Score", "TextScore", "score_model", "tally_model"]

BATCH_TOKENS = 16_384  # shown to the model at once; the logits usually set a lower bound


def score_model(  # noqa: PLR0913 - one measurement has that many settings
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    name: str,
    start_id: int | None,
    window: int,
    stride: int,
    unk_id: int | None = None,
    group_of: Tensor | None = None,
    group_names: Sequence[str] = (),
    token_bytes: Tensor | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Score:
    """Measure a causal language model on texts.

    Every document is tokenized as a whole and read through a sliding window. Every token is scored
    once, with at least ``window - stride + 1`` tokens before it where the document has them.

    Args:
        model: A causal language model in evaluation mode: called with ``input_ids`` (B, L) it
            returns something with ``logits`` (B, L, T).
        tokenizer: Its tokenizer, without truncation and padding.
        texts: What to measure on.
        name: What the score and messages call the model.
        start_id: Stands before each document as context and is not scored: BOS, or EOS for a model
            without one. With None the first token of a document cannot be scored. Its bytes are
            left out if ``token_bytes`` tells them; otherwise they stay in the number of bytes, and
            the figure comes out slightly too low.
        window: Tokens that the model sees at once, at least 2.
        stride: Tokens by which the window moves, from 1 to ``window``.
        unk_id: The unknown token, to count it.
        group_of: (T,) integer, the group of each token id, an index into ``group_names``.
        group_names: Names of the groups.
        token_bytes: (T,) integer, the length in bytes of each token; groups need it.
        batch_tokens: Tokens shown to the model at once; fewer where the logits would exceed
            256 MB. One window's logits always stand in memory together.

    Returns:
        The figures; equal for any ``batch_tokens`` up to rounding in the model's dtype.

    Raises:
        EvaluationError: If the window does not fit the model, a text has nothing to score, the
            tokenizer gives ids that the model has no rows for, the model cannot be run, or losses
            are not finite.
    """
    if group_of is not None:
        _check_groups(group_of, group_names, token_bytes)
    rows = Losses(model, name).rows
    rows = rows if token_bytes is None else min(rows, len(token_bytes))
    score, tally = tally_model(
        model,
        tokenizer,
        texts,
        plain_reading(rows, unk_id, token_bytes),
        name=name,
        start_id=start_id,
        window=window,
        stride=stride,
        batch_tokens=batch_tokens,
    )
    if group_of is None:
        return score
    return replace(score, groups=tally.groups(group_names, group_of))


def tally_model(  # noqa: PLR0913 - as score_model
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    reading: Reading,
    *,
    name: str,
    start_id: int | None,
    window: int,
    stride: int,
    batch_tokens: int = BATCH_TOKENS,
) -> tuple[Score, Tally]:
    """Measure a model on texts, as :func:`score_model` does, and tell what each token costs.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: What cuts the texts.
        texts: What to measure on.
        reading: What the model reads for the tokenizer's tokens. Window and stride are counted in
            what is read; the score's tokens are the tokenizer's, each as costly as its pieces.
        name: What the score and messages call the model.
        start_id: What the model reads before each document, or None.
        window: Tokens that the model sees at once.
        stride: Tokens by which the window moves.
        batch_tokens: Tokens shown to the model at once.

    Returns:
        The figures, without groups, and what they add up.

    Raises:
        EvaluationError: As :func:`score_model`.
    """
    config = getattr(model, "config", None)
    limit = None if config is None else position_limit(config)
    check_window(limit, name, window, stride)
    losses = Losses(model, name)
    if start_id is not None and not 0 <= start_id < losses.rows:
        raise EvaluationError(
            f"start token {start_id} is none of the {losses.rows} embedding rows of {name}; "
            "give the BOS or EOS id of its tokenizer"
        )
    # The start token has a number behind those of the pieces.
    start = None if start_id is None else len(reading.ids)
    losses.reads(torch.cat([reading.ids, torch.tensor([start_id or 0])]))
    counts, tally = [Count() for _ in texts], Tally(reading)

    def windows(advance: Callable[[int], None]) -> Iterator[tuple[int, Window]]:
        for owner, (text, count) in enumerate(zip(texts, counts, strict=True)):
            for document in text.open():
                ids = stream_ids(_counted(document, count, advance), tokenizer)
                pieces = _read(checked_ids(ids, name, reading.tokens), reading, count)
                if start is None and reading.sizes is not None:
                    pieces = _first_left_out(pieces, count, reading.sizes)
                for cut in cut_windows(pieces, start, window, stride):
                    yield owner, cut

    def size(inputs: int, targets: int) -> int:
        return losses.batch_size(inputs, targets, batch_tokens)

    with progress.bar(f"scoring {name}", total_size(texts)) as advance:
        for batch in batches(windows(advance), size):
            nats = _run(losses, [cut for _, cut in batch], name)
            targets = torch.tensor([cut.targets for _, cut in batch])
            tally.add(targets, nats)
            sums = nats, reading.ends[targets], reading.unknown[targets]
            rows = zip(*(values.sum(dim=1).tolist() for values in sums), strict=True)
            for (owner, _), row in zip(batch, rows, strict=True):
                counts[owner].add(*row)

    for text, count in zip(texts, counts, strict=True):
        if not count.tokens or count.bytes <= 0:
            raise EvaluationError(
                f"{text.name} gives {name} nothing to score; give a text with more in it"
            )
    total = sum(counts, start=Count())
    score = Score(
        model=name,
        bits_per_byte=total.bits_per_byte,
        token_perplexity=perplexity(total.nats, total.tokens),
        tokens=total.tokens,
        bytes=total.bytes,
        tokens_per_byte=total.tokens / total.bytes,
        nats=total.nats,
        unknown=total.unknown,
        window=window,
        stride=stride,
        dtype=losses.dtype,
        texts=tuple(
            TextScore(text.name, count.bits_per_byte, count.tokens, count.bytes)
            for text, count in zip(texts, counts, strict=True)
        ),
    )
    return score, tally


def check_window(limit: int | None, name: str, window: int, stride: int) -> None:
    """Check that a window and a stride fit each other and a model.

    Args:
        limit: Positions of the model, or None where it knows no limit.
        name: What messages call the model.
        window: Tokens that the model sees at once.
        stride: Tokens by which the window moves.

    Raises:
        EvaluationError: If they do not fit.
    """
    if window < 2:
        raise EvaluationError(f"window {window} is too short to predict in; give 2 or more tokens")
    if not 1 <= stride <= window:
        raise EvaluationError(
            f"stride {stride} does not fit window {window}: it must be from 1 to the window; "
            f"{window // 2} is a good choice"
        )
    if limit is not None and window > limit:
        raise EvaluationError(
            f"window {window} is longer than the {limit} positions of {name}; "
            f"give {limit} or fewer tokens"
        )


def _run(losses: Losses, batch: list[Window], name: str) -> Tensor:
    """Run the model once.

    Raises:
        EvaluationError: If the model cannot be run, or its losses cannot be used.
    """
    with running(name, len(batch), len(batch[0].inputs)):
        return losses.of(batch)


@contextmanager
def running(name: str, windows: int, tokens: int) -> Iterator[None]:
    """Tell what goes wrong in a model in a sentence.

    Args:
        name: What messages call the model.
        windows: How many windows it is run on.
        tokens: How long each is.

    Raises:
        EvaluationError: If the model cannot be run, or its losses cannot be used.
    """
    try:
        yield
    except EvaluationError:
        raise
    except Exception as error:  # each architecture fails by exceptions of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise EvaluationError(
            f"{name} cannot be run on {windows} windows of {tokens} tokens ({reason}); give a "
            "shorter window, or another model or device"
        ) from error


def _check_groups(group_of: Tensor, names: Sequence[str], token_bytes: Tensor | None) -> None:
    """Check that each token has a length and a group.

    Raises:
        ValueError: If one has none.
    """
    if token_bytes is None or token_bytes.shape != group_of.shape:
        raise ValueError("group_of needs token_bytes of the same shape")
    if int(group_of.min()) < 0 or int(group_of.max()) >= len(names):
        raise ValueError(f"group_of holds indices outside of the {len(names)} group_names")


def total_size(texts: Sequence[Text]) -> int:
    """Add up how many bytes there are; 0, for no bar, where one text does not know."""
    return sum(text.size for text in texts) if all(text.size for text in texts) else 0


def _counted(chunks: Iterator[str], count: Count, advance: Callable[[int], None]) -> Iterator[str]:
    """Count the bytes of a document while it is read."""
    for chunk in chunks:
        size = len(chunk.encode())
        count.bytes += size
        advance(size)
        yield chunk


def checked_ids(ids: Iterator[list[int]], name: str, rows: int) -> Iterator[list[int]]:
    """Pass token ids on, if the model has rows for them.

    Raises:
        EvaluationError: If it has not.
    """
    # On a GPU an id out of range would not raise but break the process.
    for part in ids:
        if part and max(part) >= rows:
            raise EvaluationError(
                f"the tokenizer gives the id {max(part)}, but {name} has rows for {rows} tokens "
                "only; give a model and a tokenizer that belong together"
            )
        yield part


def _read(ids: Iterator[list[int]], reading: Reading, count: Count) -> Iterator[list[int]]:
    """Turn tokens into what is read for them; one for which nothing is, is counted at once."""
    for part in ids:
        pieces, lost = reading.read(part)
        count.unknown += lost
        yield pieces


def _first_left_out(
    pieces: Iterator[list[int]], count: Count, sizes: Tensor
) -> Iterator[list[int]]:
    """Take the bytes of what is read first in a document off, which nothing predicts."""
    first = True
    for part in pieces:
        if first and part:
            count.bytes -= int(sizes[part[0]])
            first = False
        yield part
