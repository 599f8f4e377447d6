"""What the donor's cut of a text will cost a base, told before anything is transplanted."""

from pathlib import Path

import torch

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.evaluation.figures import Score
from tokswap.evaluation.floor import Floor, floor_over
from tokswap.evaluation.load import other_kind
from tokswap.evaluation.loaded import load_model
from tokswap.evaluation.measure import pick_device, settle_window
from tokswap.evaluation.texts import Text, file_text
from tokswap.progress import note
from tokswap.vocabulary.align import Alignment


def floor_before(
    base: Checkpoint, alignment: Alignment, path: Path, device: str = "auto"
) -> tuple[Score, Floor] | None:
    """Measure a base on a text as it cuts it and as a donor does, of which no weights are needed.

    Args:
        base: The base, which is loaded.
        alignment: The donor's vocabulary against the base's.
        path: The text.
        device: Where to compute.

    Returns:
        The base's own figures and the segmentation floor; None, and the user is told why, where
        the base cannot be loaded here or predicts no next token.

    Raises:
        EvaluationError: If the text or the device is of no use.
        TokswapError: If a file of the base cannot be had.
    """
    texts, device = [file_text(path)], pick_device(device)
    try:
        return _measured(base, alignment, texts, device)
    except EvaluationError as error:
        note(f"note: no segmentation floor is told, for {base.name} cannot be measured: {error}")
        return None


def _measured(
    base: Checkpoint, alignment: Alignment, texts: list[Text], device: str
) -> tuple[Score, Floor]:
    if kind := other_kind(base.config):  # before it is fetched
        raise EvaluationError(f"it is a {kind}; give a causal language model")
    window, stride = settle_window([base], None, None)
    model = load_model(base, device=device)
    own = model.own(texts, window=window, stride=stride)
    floor = model.floor(
        alignment,
        alignment.donor,
        texts,
        window=window,
        stride=stride,
        kind=torch.from_numpy(alignment.kind),
    )
    return own.score, floor_over(own, floor)
