"""How much of a token's last piece its input row should hold, by kind of token, without gradients.

    new  =  (1 - share) · method's row  +  share · row of the last piece

The base's own states, where it has read the pieces, tell: each share is tried on some windows, and
each kind of token takes the one that leads closest to them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokswap.progress import bar
from tokswap.refit.teacher import Lesson, body_states, lesson_mask, padded, taught
from tokswap.vocabulary.kinds import text_kind

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WINDOWS = 64
"""Windows that are tried."""
BATCH = 8
ENOUGH = 200
"""Places behind tokens of a kind without which it goes by all kinds together."""


@dataclass(frozen=True)
class Blend:
    """The share of the last piece by kind of token.

    Attributes:
        shares: By kind.
        before: Squared distance of the states over their variance, with the method's rows.
        after: The same with the best shares, of the same windows.
    """

    shares: Mapping[str, float]
    before: float
    after: float


@torch.no_grad()
def find_blend(
    lessons: Sequence[Lesson],
    base: nn.Module,
    model_of: Callable[[float], nn.Module],
    kind_of: Callable[[int], str | None],
    name: str,
    device: torch.device,
) -> Blend | None:
    """Try the shares.

    Args:
        lessons: Windows; some of them are read.
        base: The base.
        model_of: Gives the new model with a share of the last piece in every free row.
        kind_of: Names the kind of a token with a free row; None for another token.
        name: What messages call the base.
        device: Where the models are.

    Returns:
        The best shares, or None where there are no windows.
    """
    step = max(1, len(lessons) // WINDOWS)
    tried = list(lessons[::step])[:WINDOWS]
    if not tried:
        return None
    batches = [tried[at : at + BATCH] for at in range(0, len(tried), BATCH)]
    wanted = [taught(base, batch, name, device) for batch in batches]
    kinds = [_kinds_behind(batch, kind_of) for batch in batches]
    names = sorted({kind for found in kinds for kind in found})
    apart = torch.zeros(len(SHARES), len(names), dtype=torch.float64)
    count = torch.zeros(len(names), dtype=torch.float64)
    with bar("blend input rows", len(SHARES) * len(batches)) as advance:
        for number, share in enumerate(SHARES):
            model = model_of(share)
            for batch, states, behind in zip(batches, wanted, kinds, strict=True):
                read = padded([one.read for one in batch]).to(device)
                found = body_states(model, read, name)[lesson_mask(batch).to(device)].float()
                lost = (found - states).square().sum(1).double().cpu()
                at = torch.tensor([names.index(kind) for kind in behind])
                apart[number].index_add_(0, at, lost)
                if not number:
                    count.index_add_(0, at, torch.ones_like(lost))
                advance(1)
    return _best(names, apart, count, torch.cat(wanted))


def _best(names: list[str], apart: Tensor, count: Tensor, wanted: Tensor) -> Blend:
    overall = int(apart.sum(1).argmin())
    picks = [
        int(apart[:, kind].argmin()) if count[kind] >= ENOUGH else overall
        for kind in range(len(names))
    ]
    whole = float((wanted - wanted.mean(0)).double().square().sum())
    after = sum(float(apart[pick, kind]) for kind, pick in enumerate(picks))
    shares = {name: SHARES[pick] for name, pick in zip(names, picks, strict=True)}
    shares[""] = SHARES[overall]  # of kinds that do not occur
    return Blend(shares, float(apart[0].sum()) / whole, after / whole)


def _kinds_behind(batch: Sequence[Lesson], kind_of: Callable[[int], str | None]) -> list[str]:
    """Name, for each place of the lessons, the kind of the last new token up to it."""
    found = []
    for one in batch:
        last = ""
        for token in one.read[one.first :]:
            last = kind_of(token) or last
            found.append(last)
    return found


def kind_name(spelling: bytes | None) -> str:
    """Name the kind of a token, as tables of kinds do."""
    return text_kind(spelling or b"")
