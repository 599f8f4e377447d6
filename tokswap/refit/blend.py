"""How much of a token's last piece its input row should hold, by kind of token, without gradients.

    new  =  (1 - share) · method's row  +  share · row of the last piece

Each share is tried on some windows, and each kind of token takes the least that leads as well as
the best to the shared tokens that stand behind. How close the states come to those of the pieces
would be no good judge: a method's row may know what follows a token, and its pieces not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokswap.evaluation.windows import Window
from tokswap.progress import bar
from tokswap.refit.behind import KindOf, losses_behind, standard_error
from tokswap.vocabulary.kinds import text_kind

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WINDOWS = 64
"""Windows that are tried."""
ENOUGH = 200
"""Places behind tokens of a kind without which it goes by all kinds together."""


@dataclass(frozen=True)
class Blend:
    """The share of the last piece by kind of token.

    Attributes:
        shares: By kind; "" is for those that were not seen.
        before: Nats of a shared token behind a free one, among the rows that stay, by the method's
            rows.
        after: The same with the shares, of the same windows.
    """

    shares: Mapping[str, float]
    before: float
    after: float


def find_blend(
    windows: Sequence[Window],
    model_of: Callable[[float], nn.Module],
    kind_of: KindOf,
    stays: Tensor,
    name: str,
) -> Blend | None:
    """Try the shares.

    Args:
        windows: Windows of the donor's tokens; some of them are read.
        model_of: Gives the new model with a share of the last piece in every free row.
        kind_of: Names the kind of a token with a free row.
        stays: (T,) bool, on the model's device, whether a token's row is the base's.
        name: What messages call the model.

    Returns:
        The best shares, or None where no shared token stands behind a free one.

    Raises:
        EvaluationError: If the model cannot be run.
    """
    of_use = [window for window in windows if any(map(kind_of, window.inputs))]
    tried = of_use[:: max(1, len(of_use) // WINDOWS)][:WINDOWS]
    if not tried:
        return None
    nats, kinds = [], list[str]()
    with bar("blend input rows", len(SHARES) * len(tried)) as advance:
        for share in SHARES:
            found, kinds = losses_behind(model_of(share), tried, kind_of, stays, name, advance)
            nats.append(found)
    return _best(torch.stack(nats), kinds)


def _best(nats: Tensor, kinds: Sequence[str]) -> Blend | None:
    """Choose from the nats of each share at each place, (S, n)."""
    names = sorted(set(kinds))
    number = torch.tensor([names.index(kind) for kind in kinds], dtype=torch.int64)
    there = nats.isfinite().all(0)
    nats, number = nats[:, there], number[there]
    if not nats.shape[1]:
        return None
    overall = _least(nats)
    shares, after = {"": SHARES[overall]}, 0.0
    for at, kind in enumerate(names):
        own = nats[:, number == at]
        pick = _least(own) if own.shape[1] >= ENOUGH else overall
        shares[kind] = SHARES[pick]
        after += float(own[pick].sum())
    return Blend(shares, float(nats[0].mean()), after / nats.shape[1])


def _least(nats: Tensor) -> int:
    """Tell the least share that is as good as the best, within a standard error."""
    apart = nats - nats[int(nats.mean(1).argmin())]
    return int((apart.mean(1) <= standard_error(apart)).nonzero()[0])


def kind_name(spelling: bytes | None) -> str:
    """Name the kind of a token, as tables of kinds do."""
    return text_kind(spelling or b"")
