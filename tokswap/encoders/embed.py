"""Vectors of many texts: those that are kept are read, the others computed and kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokswap.encoders.encoder import Encoder
from tokswap.encoders.store import VectorStore, vectors_folder
from tokswap.progress import bar

if TYPE_CHECKING:
    from torch import Tensor

BATCHES = 8
"""Batches that are computed before their vectors are written."""


def embed(encoder: Encoder, texts: Sequence[str], *, folder: Path | None = None) -> "Tensor":
    """Give each text its vector, computed at most once on this machine.

    What is computed is kept as it comes, so a run that was stopped goes on where it stood. See
    :mod:`tokswap.encoders.store` for where, and how to be rid of it.

    Args:
        encoder: Computes what is not kept; its weights are loaded only then.
        texts: In any order; a text may come more than once.
        folder: Where vectors are kept; without it, :func:`vectors_folder`.

    Returns:
        (n, width) float32, in the order of the texts.
    """
    import torch

    where = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    distinct = list(where)
    store = VectorStore(folder or vectors_folder(), encoder.short, encoder.key)
    found, vectors = store.read(distinct)
    if lacking := [place for place in range(len(distinct)) if not found[place]]:
        if vectors is None or vectors.shape[1] != encoder.width:
            vectors = torch.empty(len(distinct), encoder.width)
        # By length here, too: a batch is of one step, and the steps are told in order.
        lengths = encoder.lengths([distinct[place] for place in lacking])
        lacking = [place for _, place in sorted(zip(lengths, lacking, strict=True))]
        step = encoder.batch_size * BATCHES
        label = f"text vectors of {encoder.name}"
        with bar(label, len(distinct), done=len(distinct) - len(lacking)) as advance:
            for start in range(0, len(lacking), step):
                places = lacking[start : start + step]
                part = [distinct[place] for place in places]
                computed = encoder.encode(part)
                vectors[places] = computed
                store.append(part, computed)
                advance(len(places))
    if vectors is None:
        return torch.empty(0, encoder.width)
    if len(distinct) == len(texts):
        return vectors
    return vectors[torch.tensor([where[text] for text in texts])]
