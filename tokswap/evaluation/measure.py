"""Measuring models by name: what `tokswap eval` and the end of a transplant do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.evaluation.load import default_window, load_for_scoring, position_limit
from tokswap.evaluation.score import Score, check_window, score_model
from tokswap.evaluation.texts import Text, dataset_text, file_text
from tokswap.names import BUNDLED_FOLDER
from tokswap.plan import PLAN_FILE, Plan
from tokswap.progress import note
from tokswap.vocabulary.align import Kind
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = BUNDLED_FOLDER / "sample.txt"
"""The text that is measured on where none is given."""

GROUPS = ("shared", "new")


def evaluate(
    *models: str,
    texts: Sequence[str | Path] = (),
    datasets: Sequence[str] = (),
    against: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    max_bytes: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
) -> "Evaluation":
    """Measure models by bits per byte on the same text.

    Args:
        models: Names as for ``--base``: aliases, bundled models, folders, Hub ids.
        texts: Text files; the bundled sample where neither texts nor datasets are given.
        datasets: Datasets as ``ID[:CONFIG[:SPLIT]]``, streamed.
        against: A model to give ratios to; it is measured too.
        window: Tokens that a model sees at once; without it the least limit of the models, 1024
            at most, so that all are measured alike.
        stride: Tokens by which the window moves; half a window without it.
        max_bytes: Whole documents of each dataset are read until this many bytes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: Type to compute in; float32 on the CPU, as stored elsewhere, without it.

    Returns:
        The scores in the order of the models, the one to compare with first.

    Raises:
        EvaluationError: If a text or a model cannot be measured.
        TokswapError: If a model cannot be had.
    """
    names = list(dict.fromkeys([*([against] if against else []), *models]))
    if not names:
        raise EvaluationError("no model was given; name one, as `tokswap eval tiny-llama`")
    sources = find_texts(texts, datasets, max_bytes)
    checkpoints = [Checkpoint.open(name) for name in names]
    window, stride = settle_window(checkpoints, window, stride)
    device = pick_device(device)
    scores = [
        measure(checkpoint, sources, window=window, stride=stride, device=device, dtype=dtype)
        for checkpoint in checkpoints
    ]
    return Evaluation(tuple(scores), against)


def find_texts(
    texts: Sequence[str | Path], datasets: Sequence[str] = (), max_bytes: int | None = None
) -> list[Text]:
    """Open what is to be measured on; see :func:`evaluate`.

    Raises:
        EvaluationError: If a text cannot be read.
    """
    if max_bytes is not None and not datasets:
        raise EvaluationError("max_bytes limits datasets, and none was given; leave it out")
    sources = [file_text(Path(path).expanduser()) for path in texts]
    sources += [dataset_text(spec, max_bytes) for spec in datasets]
    return sources or [file_text(SAMPLE)]


@dataclass(frozen=True)
class Evaluation:
    """Scores of several models on the same text.

    Attributes:
        results: One score a model.
        against: Name of the model that ratios are given to, or None; it is the first result.
    """

    results: tuple[Score, ...]
    against: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: ``results``, each with ratios where there is a model to compare with."""
        reference = self.results[0] if self.against else None
        results = []
        for score in self.results:
            said = score.to_dict()
            if reference is not None:
                said["ratios"] = ratios(score, reference)
            results.append(said)
        return {"results": results, "against": self.against}


def ratios(score: Score, reference: Score) -> dict[str, float]:
    """Ratios of a score's figures to those of another model on the same text.

    ``token_perplexity`` is not comparable across tokenizers; it is given because papers print it.
    """
    figures = ("bits_per_byte", "token_perplexity", "tokens_per_byte")
    return {name: getattr(score, name) / getattr(reference, name) for name in figures}


def measure(
    checkpoint: Checkpoint,
    texts: Sequence[Text],
    *,
    window: int,
    stride: int,
    device: str,
    dtype: str | None = None,
) -> Score:
    """Measure one checkpoint; of one that this program wrote, shared and new tokens apart.

    Raises:
        TokswapError: If the checkpoint or a text cannot be read or measured.
    """
    note(f"load {checkpoint.name}")
    vocabulary = checkpoint.vocabulary
    model, tokenizer = load_for_scoring(local_folder(checkpoint), device=device, dtype=dtype)
    return score_model(
        model,
        tokenizer,
        texts,
        name=checkpoint.name,
        start_id=start_of(vocabulary),
        unk_id=vocabulary.roles.get("unk"),
        window=window,
        stride=stride,
        group_of=_groups(checkpoint, len(vocabulary)),
        group_names=GROUPS,
        token_bytes=lengths_of(vocabulary),
    )


def start_of(vocabulary: Vocabulary) -> int | None:
    """Tell what stands before each document: the beginning of text, or the end of the last one."""
    return vocabulary.roles.get("bos", vocabulary.roles.get("eos"))


def lengths_of(vocabulary: Vocabulary) -> "Tensor":
    """Tell the bytes of each token, (T,) int64; special tokens stand for none."""
    special = vocabulary.special
    sizes = [0 if n in special else len(s or b"") for n, s in enumerate(vocabulary.spelling)]
    return torch.tensor(sizes, dtype=torch.int64)


def _groups(checkpoint: Checkpoint, size: int) -> "Tensor | None":
    """Tell shared (0) from new tokens (1) by the plan in the folder, where there is one."""
    if PLAN_FILE not in checkpoint.files.names:
        return None
    return groups_of(Plan.load(checkpoint.files.path(PLAN_FILE)).kind[:size])


def groups_of(kind: "Tensor") -> "Tensor":
    """Tell which of ``GROUPS`` each token is in by its kind, (T,) int64."""
    return (kind == Kind.MISSING).to(torch.int64)


def local_folder(checkpoint: Checkpoint) -> Path:
    """Fetch all that is needed to load a model, and return the folder that holds it.

    Raises:
        TokswapError: If something cannot be fetched.
    """
    tokenizer_files(checkpoint.files)
    checkpoint.files.fetch(
        [*checkpoint.shards, *(checkpoint.files.names & {"generation_config.json"})]
    )
    return checkpoint.files.path("config.json").parent


def settle_window(
    checkpoints: Sequence[Checkpoint], window: int | None, stride: int | None
) -> tuple[int, int]:
    """Choose the window and stride for models that are to be measured alike.

    Args:
        checkpoints: The models.
        window: Tokens that a model sees at once; the least limit of the models, 1024 at most,
            without it.
        stride: Tokens by which the window moves; half a window without it.

    Raises:
        EvaluationError: If they do not fit each other or a model, or a config cannot be read.
    """
    configs = {checkpoint.name: _config(checkpoint) for checkpoint in checkpoints}
    if window is None:
        window = min(default_window(config)[0] for config in configs.values())
    stride = max(1, window // 2) if stride is None else stride
    for name, config in configs.items():
        check_window(position_limit(config), name, window, stride)
    return window, stride


def _config(checkpoint: Checkpoint) -> Any:
    from transformers import AutoConfig

    checkpoint.config  # noqa: B018 - a missing or malformed one is told in our words
    folder = checkpoint.files.path("config.json").parent
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each architecture refuses settings by exceptions of its own
        reason = " ".join(str(error).split())[:300]
        raise EvaluationError(
            f"{checkpoint.name} has a config that transformers cannot read ({reason}); give a "
            "model that it knows"
        ) from error


def pick_device(device: str) -> str:
    """Choose where to compute: for ``auto`` a CUDA device where there is one, else the CPU.

    Raises:
        EvaluationError: If the device is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise EvaluationError(f"device {device!r} cannot be used ({reason}); use cpu") from error
    return device


def rounded(score: Score) -> dict[str, Any]:
    """A score for the record, rounded so that it does not tell one processor from another."""
    return {key: _round(value) for key, value in score.to_dict().items()}


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _round(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_round(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(np.format_float_positional(value, 6, unique=False, fractional=False))
    return value
