"""Reading a text once: the states before the head, and the log-partition of the rows that stay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokswap.errors import RefitError
from tokswap.evaluation.losses import Losses
from tokswap.evaluation.score import running
from tokswap.evaluation.windows import Window
from tokswap.progress import bar
from tokswap.ranks import Ranks
from tokswap.refit.head import HeadForm, caught, head_of
from tokswap.refit.store import Packed, StateStore, packed
from tokswap.refit.windows import Block

WINDOWS = 16
"""Windows of a block, which are read and kept together."""
BATCH_TOKENS = 4096
WORK = 1_000_000_000
"""Products of states and free rows for one reading of all. Beyond, only a part of the positions
whose target is no free row is kept, each standing for several; and where even those whose target
is one are too many, the rows that are seldom seen are not fitted."""
OTHERS = 0.25
"""Positions with another target for each with a free one, at least."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads windows with a model.

    Attributes:
        model: The model with the new vocabulary.
        form: What it does behind its head.
        place: (T,) int64, the number of each free row, -1 for the others.
        name: What messages call it.
        part: The part of the positions with another target that is kept.
        seed: Decides which.
    """

    model: nn.Module
    form: HeadForm
    place: Tensor
    name: str
    part: float = 1.0
    seed: int = 0

    def read(self, number: int, windows: Sequence[Window], weight: float = 1.0) -> Packed:
        """Read a block of windows, each position of which counts for as many as its weight says.

        Raises:
            RefitError: If states or logits are not finite.
            EvaluationError: If the model cannot be run.
        """
        losses = Losses(self.model, self.name)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for batch in alike(windows, losses):
            with running(self.name, len(batch), len(batch[0].inputs)):
                parts.append(self._run(losses, batch))
        states, rest, target = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        if not bool(states.isfinite().all() and rest.isfinite().all()):
            bad = int((~(states.isfinite().all(1) & rest.isfinite())).sum())
            raise RefitError(
                f"{self.name} gives states or logits that are not finite (NaN or infinite) at "
                f"{bad:,} of {len(states):,} tokens in {losses.dtype}; check its weights, or "
                "refit in float32 on the CPU (--device cpu)"
            )
        weights = torch.full((len(states),), weight)
        if self.part < 1:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            drawn = torch.rand(len(states), generator=generator) < self.part
            free = target.cpu() >= 0
            kept = (drawn | free).nonzero()[:, 0]
            weights = torch.where(free, weight, weight / self.part)[kept]
            kept = kept.to(states.device)
            states, rest, target = states[kept], rest[kept], target[kept]
        return packed(states, rest, target, weights)

    @torch.no_grad()
    def _run(self, losses: Losses, batch: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor]:
        device = self.place.device
        inputs = torch.tensor([window.inputs for window in batch], device=device)
        targets = torch.tensor([window.targets for window in batch], device=device)
        asked = targets.shape[1]
        with caught(head_of(self.model, self.name)) as found:
            logits: Tensor = self.model(input_ids=inputs, **losses.options(asked)).logits
        logits = logits[:, -asked:].flatten(0, 1).float()
        states = found["states"][:, -asked:].flatten(0, 1).float() * self.form.scale
        rest = logits.masked_fill_(self.place >= 0, -torch.inf).logsumexp(1)
        return states, rest, self.place[targets.flatten()]


def alike(windows: Sequence[Window], losses: Losses) -> list[list[Window]]:
    """Put windows of one shape together, as many as may go through the model at once."""
    shapes: dict[tuple[int, int], list[Window]] = {}
    for window in windows:
        shapes.setdefault((len(window.inputs), len(window.targets)), []).append(window)
    batches = []
    for (inputs, targets), alike in shapes.items():
        size = losses.batch_size(inputs, targets, BATCH_TOKENS)
        batches += [alike[at : at + size] for at in range(0, len(alike), size)]
    return batches


def kept_part(positions: int, free: int, rows: int, work: int = WORK) -> float:
    """Tell which part of the positions whose target is no free row is kept.

    Args:
        positions: All of them.
        free: Those whose target is a free row; all are kept.
        rows: A, the free rows.
        work: Products of states and rows that one reading may take.
    """
    room = max(work // max(rows, 1) - free, int(OTHERS * free))
    return min(1.0, room / max(positions - free, 1))


def affordable(counts: NDArray[np.int64], work: int = WORK) -> NDArray[np.bool_]:
    """Choose the rows to fit: all that are seen, or the most frequent where those are too many.

    Args:
        counts: (M,) how often each missing token is a target.
        work: Products of states and rows that one reading may take.

    Returns:
        (M,) whether each is fitted.
    """
    order = np.argsort(-counts, kind="stable")
    seen = counts[order].cumsum()
    rows = np.arange(1, len(counts) + 1)
    fits = (rows * seen * (1 + OTHERS) <= work) & (counts[order] > 0)
    chosen = np.zeros(len(counts), dtype=np.bool_)
    chosen[order[: int(fits.sum())]] = True
    return chosen


def read_all(
    reader: Reader,
    blocks: Sequence[Block],
    store: StateStore,
    ranks: Ranks,
    label: str,
) -> None:
    """Read what the store does not hold yet, each block by one of the ranks; the first keeps it.

    Args:
        reader: What reads.
        blocks: All windows, in blocks.
        store: Where they go.
        ranks: The processes that share the work.
        label: What is told of it.

    Raises:
        RefitError: If states are not finite, or a block cannot be kept.
        RankError: If another rank fails.
    """
    from safetensors.torch import load, save

    # What the first rank holds of an earlier run is what counts.
    said = ranks.share(b" ".join(b"%d" % number for number in store.left()))[0]
    left = [int(number) for number in said.split()]
    size = sum(len(window.targets) for block in blocks for window in block.windows)
    ahead = sum(len(w.targets) for number in left for w in blocks[number].windows)
    with bar(label, size, done=size - ahead) as advance:
        for at in range(0, len(left), ranks.world):
            turn = left[at : at + ranks.world]
            mine = turn[ranks.rank] if ranks.rank < len(turn) else None
            block = None if mine is None else reader.read(mine, *blocks[mine])
            if ranks.world == 1 and block is not None:
                store.put(turn[0], block)
            else:
                heard = ranks.share(b"" if block is None else save(block))
                for number, data in zip(turn, heard, strict=False):
                    if ranks.first:
                        store.put(number, load(data))
            advance(sum(len(window.targets) for n in turn for window in blocks[n].windows))
