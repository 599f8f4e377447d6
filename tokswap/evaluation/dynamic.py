"""Dynamic tokenization measured: prefixes are read in merged tokens, suffixes scored in the base's.

Within each batch of texts the most frequent pairs of neighbours become tokens of their own, with
rows made on demand; the same weights then read fewer tokens (Feher, Vulić and Minixhofer, ACL 2025,
arXiv 2411.18553). What follows is scored as the base cuts it, p(suffix | prefix), so every number
of merges is measured on the same tokens, and none at all is the base itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokswap import progress
from tokswap.checkpoint.skeleton import read_skeleton
from tokswap.errors import EvaluationError
from tokswap.evaluation.load import load_for_scoring
from tokswap.evaluation.loaded import local_folder
from tokswap.evaluation.longer_input import LongerInput
from tokswap.evaluation.measure import find_texts, settle_window
from tokswap.evaluation.merged_reading import MergedReading, MergedScore
from tokswap.evaluation.prefixes import Split, cut_splits
from tokswap.evaluation.score import checked_ids, total_size
from tokswap.evaluation.streaming import stream_ids
from tokswap.evaluation.texts import Text
from tokswap.evaluation.tokens import start_of
from tokswap.names import near
from tokswap.on_demand.embedder import TokenEmbedder, asked_recipe, open_embedder
from tokswap.recipe import Recipe
from tokswap.vocabulary.boundary import BOUNDARIES, Boundary, holder

BATCH = 32
"""Windows that share their merges."""


@dataclass(frozen=True)
class DynamicEvaluation:
    """What dynamic tokens save a model, and what they cost it.

    Attributes:
        model: Its name.
        method: What fills the rows of dynamic tokens.
        boundary: What tokens may not be merged across.
        results: The figures, without merges first.
        lengths: The mean number of tokens of a prefix, without merges and after each.
        windows: How many prefixes with their suffixes there were.
        tokens: Scored tokens, all in suffixes.
        bytes: Their bytes.
        batches: Batches, each with merges of its own.
        saturated: Batches in which no pairs were left before all merges were made.
        batch: Windows of a batch; the last has up to a half more or less.
        window: Tokens of a prefix and its suffix, as the base cuts them.
        stride: Tokens of a suffix.
        dtype: Type that the model computes in.
        texts: Names of the texts.
    """

    model: str
    method: str
    boundary: Boundary
    results: tuple[MergedScore, ...]
    lengths: tuple[float, ...]
    windows: int
    tokens: int
    bytes: int
    batches: int
    saturated: int
    batch: int
    window: int
    stride: int
    dtype: str
    texts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        said = {**asdict(self), "texts": list(self.texts), "lengths": list(self.lengths)}
        return said | {"results": [asdict(score) for score in self.results]}


def evaluate_dynamic(  # noqa: PLR0913 - one measurement has that many settings
    model: str,
    *,
    merges: int = 100,
    boundary: Boundary = "pretokens",
    batch: int = BATCH,
    texts: Sequence[str | Path] = (),
    datasets: Sequence[str] = (),
    window: int | None = None,
    stride: int | None = None,
    max_bytes: int | None = None,
    dtype: str | None = None,
    donor: str | None = None,
    recipe: Recipe | None = None,
    **settings: Any,
) -> DynamicEvaluation:
    """Measure a model by bits per byte after prefixes whose frequent pairs are merged.

    Args:
        model: The model, by name.
        merges: Merges in each batch, at most.
        boundary: What tokens may not be merged across: ``pretokens``, ``words`` or ``none``
            (:func:`tokswap.vocabulary.boundary.holder`).
        batch: Windows that share their merges.
        texts: Text files; the bundled sample where neither texts nor datasets are given.
        datasets: Datasets as ``ID[:CONFIG[:SPLIT]]``, streamed.
        window: Tokens of a prefix and its suffix; without it the model's limit, 1024 at most.
        stride: Tokens of a suffix; half a window without it.
        max_bytes: Whole documents of each dataset are read until this many bytes.
        dtype: Type to compute in; float32 on the CPU, as stored elsewhere, without it.
        donor: The model whose weights the method reads, by name; then tokens that it lacks are
            not made.
        recipe: The method with its settings (:func:`~tokswap.on_demand.embedder.asked_recipe`).
        **settings: Instead of it ``method``, ``parameters``, ``per_kind``, ``seed`` and ``device``
            as in a recipe.

    Raises:
        EvaluationError: If a setting is out of range, or a text or the model cannot be measured.
        TokswapError: If the model cannot be had, or the method cannot work on it.
    """
    _check(merges, boundary, batch)
    sources = find_texts(texts, datasets, max_bytes)
    embedder = open_embedder(recipe or asked_recipe(model, donor, settings), donor=donor)
    base, vocabulary = embedder.base, embedder.vocabulary
    _refuse(embedder)
    window, stride = settle_window([base], window, stride)
    if stride >= window:
        raise EvaluationError(
            f"a stride of {stride} leaves nothing of a window of {window} for a prefix; give a "
            "smaller stride, which is the number of tokens that are scored"
        )
    progress.note(f"load {base.name}")
    folder = local_folder(base)
    loaded, tokenizer = load_for_scoring(folder, device=embedder.device, dtype=dtype)
    reader = LongerInput(loaded, base.name)
    holds = holder(vocabulary, boundary, tokenizer=embedder.tokenizer)
    reading = MergedReading(
        embedder, reader, lambda data: embedder.serves(data) and holds(data), merges
    )
    with progress.bar(f"reading {base.name}", total_size(sources)) as advance:

        def splits() -> Iterator[Split]:
            for text in sources:
                count = 0
                for document in text.open():
                    ids = stream_ids(_counted(document, advance), tokenizer)
                    ids = checked_ids(ids, base.name, reader.rows)
                    for split in cut_splits(ids, start_of(vocabulary), window, stride):
                        count += 1
                        yield split
                _check_length(text, count, window - stride)

        for some in _batches(splits(), batch):
            reading.add(some)
    return DynamicEvaluation(
        model=base.name,
        method=embedder.label,
        boundary=boundary,
        results=tuple(reading.scores()),
        lengths=tuple(reading.lengths()),
        windows=reading.windows,
        tokens=reading.tokens,
        bytes=reading.bytes,
        batches=reading.batches,
        saturated=reading.saturated,
        batch=batch,
        window=window,
        stride=stride,
        dtype=reader.dtype,
        texts=tuple(text.name for text in sources),
    )


def _check(merges: int, boundary: str, batch: int) -> None:
    """Check what is asked for.

    Raises:
        EvaluationError: If it cannot be done.
    """
    if merges < 1 or batch < 1:
        raise EvaluationError(
            f"{merges} merges in batches of {batch} windows are nothing to measure; give 1 or more "
            "of both"
        )
    if boundary not in BOUNDARIES:
        raise EvaluationError(
            f"{boundary!r} is no boundary{near(boundary, list(BOUNDARIES))}; give one of "
            + ", ".join(BOUNDARIES)
        )


def _refuse(embedder: TokenEmbedder) -> None:
    """Refuse, before weights are loaded, a model that reads more of a token than one row.

    Raises:
        EvaluationError: If it is one.
    """
    base, layout = embedder.base, embedder.pair.layout
    if not layout.causal:
        raise EvaluationError(
            f"{base.name} is a {layout.model_class}, which predicts no next token, so nothing can "
            "be scored after a prefix; give a causal language model"
        )
    skeleton = read_skeleton(base)
    for slot in skeleton.vocabulary:
        if slot.embeds and skeleton.input not in slot.names:
            raise EvaluationError(
                f"{base.name} looks up {min(slot.embeds)} beside the embedding of each token, and "
                "a dynamic token has no row there; give a model with one embedding"
            )


def _check_length(text: Text, windows: int, prefix: int) -> None:
    """Check that a text had something to score.

    Raises:
        EvaluationError: If all of its documents are too short.
    """
    if not windows:
        raise EvaluationError(
            f"{text.name} has no document longer than the {prefix} tokens of a prefix, so nothing "
            "is left to score; give a longer text, or a shorter window"
        )


def _batches(splits: Iterator[Split], size: int) -> Iterator[list[Split]]:
    """Gather batches; the last has half a batch more or less, so that none is very small."""
    held: list[Split] = []
    for split in splits:
        held.append(split)
        if len(held) >= size + (size + 1) // 2:
            yield held[:size]
            del held[:size]
    if held:
        yield held


def _counted(chunks: Iterator[str], advance: Callable[[int], None]) -> Iterator[str]:
    for chunk in chunks:
        advance(len(chunk.encode()))
        yield chunk
