"""Softmax regression in which only some of the rows are free, pulled towards where they start.

Of all rows of a head, A are free. Over n positions with states h, of which some have a free row as
their target y, the rows U minimise

    Σ_i w_i [ log(exp r_i + Σ_j exp f(u_j·h_i + b_j)) - f(u_y·h_i + b_y) ]
        + λ/2v Σ_j |u_j - u⁰_j|²

where r_i is the log-partition of all other rows, which stand still, and f what the head makes of a
product: nothing, or a soft cap c·tanh(·/c). Without a cap the problem is convex. The partition is
exact: every row that there is takes part in it.

It is solved by L-BFGS in coordinates in which the curvature is nearly that of a ball. To a free row
that is expected π_j times the curvature is about π_j C + λ/v, where C is the mean of h hᵀ; in the
eigenvectors of C that is a diagonal, and its root scales each coordinate of each row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

LOGITS = 1 << 22
"""Products of states and rows that are held at once, in numbers: what a processor keeps near."""
HIGHEST = 60.0
"""Nats over all rows that stay at which a free row's logit ends, for the sake of the numbers' end:
no more probability is to be had there."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Some positions of a text.

    Attributes:
        states: (n, D) what the head reads there.
        rest: (n,) float32, log-partition of the rows that stand still.
        target: (n,) int64, which of the free rows is the target, or -1 where none of them is.
        weights: (n,) float32, for how many positions each stands.
    """

    states: Tensor
    rest: Tensor
    target: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Head:
    """What a head makes of the product of a state and a row.

    Attributes:
        bias: (A,) of the free rows, added to their products; None without one.
        cap: The c of a soft cap c·tanh(·/c); None without one.
    """

    bias: Tensor | None = None
    cap: float | None = None

    def logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """Give (n, A) logits of (n, D) states and (A, D) rows."""
        found = states @ rows.T if self.bias is None else torch.addmm(self.bias, states, rows.T)
        return found if self.cap is None else found.div_(self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor) -> Tensor | None:
        """Give the derivative of the logits by the products; None where it is 1."""
        return None if self.cap is None else 1 - (logits / self.cap).square()


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of the positions before anything is solved.

    Attributes:
        second: (D, D) float64, Σ w h hᵀ / Σ w.
        times: (A,) float64, how often each free row is the target.
        expected: (A,) float64, how often the rows at the start expect it.
    """

    second: Tensor
    times: Tensor
    expected: Tensor


Source = Callable[[], Iterable[Positions]]
"""Reads all positions, as often as it is asked, always alike."""


def chunks(source: Source, rows: int, numbers: int = LOGITS) -> Iterator[Positions]:
    """Read positions, so many at a time that their products with the rows have their place."""
    size = max(1, numbers // max(rows, 1))
    for block in source():
        for at in range(0, len(block.states), size):
            part = slice(at, at + size)
            yield Positions(
                block.states[part].float(),
                block.rest[part],
                block.target[part],
                block.weights[part],
            )


def losses(part: Positions, rows: Tensor, head: Head) -> Tensor:
    """Give what changes with the rows of the loss of each position, (n,) float32 nats.

    Of a free target that is its loss, of another what the free rows add to its.
    """
    logits = head.logits(part.states, rows)
    own = _own(part, logits)
    _, odds = _expected(part, logits)
    return odds.log1p_() - own


def _own(part: Positions, logits: Tensor) -> Tensor:
    """Give the logit of each free target over the rest's log-partition; 0 for another target."""
    own = logits.gather(1, part.target.clamp_min(0)[:, None])[:, 0] - part.rest
    return torch.where(part.target >= 0, own, 0)


def _expected(part: Positions, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Give exp(logit - r) of each free row, (n, A), and their sums, (n,); in the logits' place.

    r is the log-partition of the rows that stay, so a row's probability is the first over one more
    than the second. One exponential for each product is most of the work on a processor.
    """
    over = logits.sub_(part.rest[:, None]).clamp_(max=HIGHEST).exp_()
    return over, over.sum(1)


def moments(source: Source, start: Tensor, head: Head, *, numbers: int = LOGITS) -> Moments:
    """Read all positions once.

    Args:
        source: The positions.
        start: (A, D) the free rows at the start.
        head: What the head makes of products.
        numbers: Products to hold at once.
    """
    width, count = start.shape[1], len(start)
    second = torch.zeros(width, width, dtype=torch.float64)
    times, expected = torch.zeros(2, count, dtype=torch.float64, device=start.device)
    total = 0.0
    for part in chunks(source, count, numbers):
        weighted = part.states * part.weights[:, None]
        second += (weighted.T @ part.states).double().cpu()
        total += float(part.weights.double().sum())
        free = part.target >= 0
        times.index_add_(0, part.target[free], part.weights[free].double())
        odds, total_odds = _expected(part, head.logits(part.states, start))
        expected += ((part.weights / (1 + total_odds)) @ odds).double()
    return Moments(second / max(total, 1e-300), times, expected)


@dataclass(frozen=True)
class Effort:
    """How far a solver goes, and what it may hold.

    Attributes:
        iterations: Most iterations for each strength.
        tolerance: An iteration that gains less than this part of what all have gained is the last.
        history: Pairs of L-BFGS; each takes twice the memory of the rows.
        numbers: Products to hold at once.
    """

    iterations: int = 25
    tolerance: float = 2e-3
    history: int = 6
    numbers: int = LOGITS


class SoftmaxRows:
    """Solves for the free rows at one strength of the pull after the other.

    Args:
        source: The positions.
        start: (A, D) float32, where the free rows start, and to where they are pulled.
        head: What the head makes of products.
        variance: v, in which distances of rows are measured: that of the numbers of a table.
        effort: When to stop, and what to hold.
        advance: Is told of every reading of all positions.
    """

    def __init__(
        self,
        source: Source,
        start: Tensor,
        head: Head,
        *,
        variance: float,
        effort: Effort | None = None,
        advance: Callable[[int], None] = lambda _times: None,
    ) -> None:
        self._source, self._start, self._head = source, start, head
        self._effort, self._advance = effort or Effort(), advance
        said = moments(source, start, head, numbers=self._effort.numbers)
        advance(1)
        values, vectors = torch.linalg.eigh(said.second * variance)
        # In X of U = U⁰ + X Bᵀ the pull is λ/2 |X|², and the states' second moment a diagonal.
        self._basis = (vectors * variance**0.5).float().to(start.device)
        moment = values.clamp_min(0).float().to(start.device)
        often = torch.maximum(said.expected, said.times).float()
        self._curvature = often[:, None] * moment
        self._at = torch.zeros_like(start)

    def solve(self, strength: float) -> Tensor:
        """Solve for one strength λ of the pull, from where the last one ended.

        Returns:
            (A, D) the free rows.
        """
        scale = (self._curvature + strength).rsqrt_()
        point = self._at / scale
        value, slope = self._objective(point, scale, strength)
        first, pairs = value, list[tuple[Tensor, Tensor, Tensor]]()
        for _ in range(self._effort.iterations):
            step = _direction(slope, pairs)
            fall = float((slope * step).sum())
            if fall <= 0:
                break
            length = 1.0
            while True:
                there = point - length * step
                found, turned = self._objective(there, scale, strength)
                if found <= value - 1e-4 * length * fall or length < 1e-4:
                    break
                length *= 0.4
            if found >= value:  # as far as the numbers' precision goes
                break
            moved, bent = there - point, turned - slope
            if (turn := (moved * bent).sum()) > 0:
                pairs = [*pairs[1 - self._effort.history :], (moved, bent, turn)]
            gain, point, value, slope = value - found, there, found, turned
            if gain < self._effort.tolerance * (first - value):
                break
        self._at = point * scale
        return self._rows(self._at)

    def _rows(self, at: Tensor) -> Tensor:
        return torch.addmm(self._start, at, self._basis.T)

    def _objective(self, point: Tensor, scale: Tensor, strength: float) -> tuple[float, Tensor]:
        at = point * scale
        rows = self._rows(at)
        value, gradient = 0.0, torch.zeros_like(rows)
        for part in chunks(self._source, len(rows), self._effort.numbers):
            logits = self._head.logits(part.states, rows)
            slope, own = self._head.slope(logits), _own(part, logits)
            odds, sums = _expected(part, logits)
            value += float(((sums.log1p() - own) * part.weights).double().sum())
            pull = odds.mul_((part.weights / (1 + sums))[:, None])
            free = (part.target >= 0).nonzero()[:, 0]
            pull[free, part.target[free]] -= part.weights[free]
            if slope is not None:
                pull *= slope
            gradient.addmm_(pull.T, part.states)
        self._advance(1)
        value += strength / 2 * float(at.double().square().sum())
        return value, (gradient @ self._basis + strength * at) * scale


def _direction(slope: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Give L-BFGS's direction, which a step goes against."""
    found, shares = slope.clone(), []
    for moved, bent, turn in reversed(pairs):
        share = (moved * found).sum() / turn
        shares.append(share)
        found.sub_(share * bent)
    if pairs:
        _, bent, turn = pairs[-1]
        found *= turn / bent.square().sum()
    for (moved, bent, turn), share in zip(pairs, reversed(shares), strict=True):
        found.add_((share - (bent * found).sum() / turn) * moved)
    return found
