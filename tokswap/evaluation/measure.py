"""Measuring models by name: what `tokswap eval` and the end of a transplant do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.evaluation.floor import Floor, made_of, measure_with_floors, planned_kinds
from tokswap.evaluation.load import default_window, position_limit
from tokswap.evaluation.loaded import load_model
from tokswap.evaluation.score import Score, check_window, score_model
from tokswap.evaluation.texts import Text, dataset_text, file_text
from tokswap.evaluation.tokens import GROUPS, groups_of, lengths_of, start_of
from tokswap.names import BUNDLED_FOLDER

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = BUNDLED_FOLDER / "sample.txt"
"""The text that is measured on where none is given."""


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
        against: A model to give ratios to; it is measured too. Of models that were made of it the
            segmentation floor is told: it is measured on the text as they cut it.
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
    read: _Reading = {"window": window, "stride": stride, "device": device, "dtype": dtype}
    reference, *others = checkpoints
    floors: list[Floor | None] = [None] * len(checkpoints)
    made = [made_of(reference, other) if against else None for other in others]
    if any(made):
        first, floors[1:] = measure_with_floors(reference, made, sources, **read)
    else:
        first = measure(reference, sources, **read)
    scores = [first, *(measure(other, sources, **read) for other in others)]
    return Evaluation(tuple(scores), against, tuple(floors))


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
        floors: For each result the segmentation floor, where it was made of that model; results
            with the same tokenizer have the same one.
    """

    results: tuple[Score, ...]
    against: str | None = None
    floors: tuple[Floor | None, ...] = ()

    @property
    def floor(self) -> Score | None:
        """The figures of the first segmentation floor; None where there is none."""
        return next((floor.score for floor in self.floors if floor), None)

    @property
    def pairs(self) -> list[tuple[Score, Floor | None]]:
        """Each result with its floor."""
        return list(zip(self.results, self.floors or [None] * len(self.results), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: ``results``, each with ratios where there is a model to compare with.

        A result that was made of that model also has ``floor``, the figures of the segmentation
        floor, ``cut``, what the changed cut costs by kind of text, and ``rows``, what the result
        costs over the floor.
        """
        reference = self.results[0] if self.against else None
        results = []
        for score, floor in self.pairs:
            said = score.to_dict()
            if reference is not None:
                said["ratios"] = ratios(score, reference)
            results.append(said | (floor.to_dict(score) if floor else {}))
        return {"results": results, "against": self.against}


class _Reading(TypedDict):
    """How models read the text."""

    window: int
    stride: int
    device: str
    dtype: str | None


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
    vocabulary = checkpoint.vocabulary
    loaded = load_model(checkpoint, device=device, dtype=dtype)
    return score_model(
        loaded.model,
        loaded.tokenizer,
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


def _groups(checkpoint: Checkpoint, size: int) -> "Tensor | None":
    """Tell shared (0) from new tokens (1) by the plan in the folder, where there is one."""
    kind = planned_kinds(checkpoint, size)
    return None if kind is None else groups_of(kind)


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
