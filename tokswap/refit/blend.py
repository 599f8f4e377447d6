"""How much of a token's last piece its input row should hold, by kind of token, without gradients.

    new  =  (1 - share) · method's row  +  share · row of the last piece

Each share is tried on some windows, and each kind of token takes the least that leads as well as
the best to the shared tokens that stand behind. How close the states come to those of the pieces
would be no good judge: a method's row may know what follows a token, and its pieces not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokswap.evaluation.losses import Losses
from tokswap.evaluation.score import running
from tokswap.evaluation.windows import Window
from tokswap.progress import bar
from tokswap.refit.states import alike
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


@torch.no_grad()
def find_blend(
    windows: Sequence[Window],
    model_of: Callable[[float], nn.Module],
    kind_of: Callable[[int], str | None],
    stays: Tensor,
    name: str,
) -> Blend | None:
    """Try the shares.

    Args:
        windows: Windows of the donor's tokens; some of them are read.
        model_of: Gives the new model with a share of the last piece in every free row.
        kind_of: Names the kind of a token with a free row; None for another token.
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
    found: list[Tensor] = []
    kinds: list[str | None] = []
    with bar("blend input rows", len(SHARES) * len(tried)) as advance:
        for share in SHARES:
            model = model_of(share)
            losses = Losses(model, name)
            batches = alike(tried, losses)
            kinds = kinds or [k for b in batches for w in b for k in _kinds_behind(w, kind_of)]
            parts = []
            for batch in batches:
                with running(name, len(batch), len(batch[0].inputs)):
                    parts.append(_nats(model, losses, batch, stays))
                advance(len(batch))
            found.append(torch.cat(parts))
    return _best(torch.stack(found), kinds)


def _nats(model: nn.Module, losses: Losses, batch: Sequence[Window], stays: Tensor) -> Tensor:
    """Give the nats of each target among the rows that stay, NaN of one that does not."""
    inputs = torch.tensor([window.inputs for window in batch], device=stays.device)
    targets = torch.tensor([window.targets for window in batch], device=stays.device)
    asked = targets.shape[1]
    logits: Tensor = model(input_ids=inputs, **losses.options(asked)).logits
    logits = logits[:, -asked:].flatten(0, 1).float()
    own = logits.gather(1, targets.flatten()[:, None])[:, 0]
    nats = logits.masked_fill_(~stays, -torch.inf).logsumexp(1) - own
    return nats.masked_fill_(~stays[targets.flatten()], torch.nan).double().cpu()


def _kinds_behind(window: Window, kind_of: Callable[[int], str | None]) -> Iterator[str | None]:
    """Name, for each target of a window, the kind of the last free token before it."""
    last = None
    for number, token in enumerate(window.inputs, len(window.targets) - len(window.inputs)):
        last = kind_of(token) or last
        if number >= 0:
            yield last


def _best(nats: Tensor, kinds: Sequence[str | None]) -> Blend | None:
    """Choose from the nats of each share at each place, (S, n)."""
    names = sorted({kind for kind in kinds if kind})
    number = torch.tensor([names.index(kind) if kind else -1 for kind in kinds])
    number[~nats.isfinite().all(0)] = -1
    behind = nats[:, number >= 0]
    if not behind.shape[1]:
        return None
    overall = _least(behind)
    shares, after = {"": SHARES[overall]}, 0.0
    for at, kind in enumerate(names):
        own = nats[:, number == at]
        pick = _least(own) if own.shape[1] >= ENOUGH else overall
        shares[kind] = SHARES[pick]
        after += float(own[pick].sum())
    return Blend(shares, float(behind[0].mean()), after / behind.shape[1])


def _least(nats: Tensor) -> int:
    """Tell the least share that is as good as the best, within a standard error."""
    best = int(nats.mean(1).argmin())
    apart = nats - nats[best]
    error = apart.std(1, correction=0) / nats.shape[1] ** 0.5
    return int((apart.mean(1) <= error).nonzero()[0])


def kind_name(spelling: bytes | None) -> str:
    """Name the kind of a token, as tables of kinds do."""
    return text_kind(spelling or b"")
