"""Rows of the embedding that lead to the states to which the tokens' pieces lead.

After Token Distillation (Dobler et al., arXiv 2505.20133), which teaches one new token at a time
from contexts of its own; here all tokens of a text learn together, from the text as it stands:

    min over E_new  Σ_t |h_t(new tokens) - h_t(pieces)|²  /  Σ_t |h_t(pieces) - mean|²

over all places t from the first new token of a window on. The body is frozen, and h is what the
head reads.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.errors import RefitError
from tokswap.progress import bar
from tokswap.ranks import Ranks
from tokswap.refit.progress import MatchProgress, Reached
from tokswap.refit.teacher import Lesson, body_states, lesson_mask, padded, taught

BATCH = 8
"""Windows of a step."""
EPOCHS = 3
"""Times that the text is read at most: more gains little (docs/refit.md)."""
RATE = 0.1
"""Adam's step, as a part of the root mean square of the base's rows."""
WARM = 10
"""Steps in which the rate rises."""
MEASURED = 3
"""Steps after which it is known how many there is time for."""


@dataclass(frozen=True)
class Matched:
    """What came of matching.

    Attributes:
        rows: (A, D) float32, the rows of the embedding.
        before: Of the held-out text, the squared distance of the states over their variance.
        after: The same in the end.
        steps: Steps that were taken.
        kept: Whether the rows have changed, for held-out text is the better for it.
    """

    rows: Tensor
    before: float
    after: float
    steps: int
    kept: bool


@dataclass(frozen=True, eq=False)
class Matcher:
    """A model whose free input rows learn, and the base that teaches them.

    Attributes:
        model: The model with the new vocabulary.
        base: The base.
        place: (T,) int64, the number of each free row, -1 for the others.
        name: What messages call the base.
        ranks: The processes that share the windows of a step.
        progress: Keeps how far it has come; without it, a run that is stopped begins anew.
    """

    model: nn.Module
    base: nn.Module
    place: Tensor
    name: str
    ranks: Ranks
    progress: MatchProgress | None = None

    def learn(
        self,
        lessons: tuple[Sequence[Lesson], Sequence[Lesson]],
        start: Tensor,
        *,
        minutes: float,
        steps: int | None,
        seed: int,
        size: float,
    ) -> Matched:
        """Teach the free rows.

        Args:
            lessons: To learn from, and to decide by.
            start: (A, D) float32 rows at the start.
            minutes: How long it may take about; the first steps tell how many there is time for.
            steps: Steps to take in place of that.
            seed: Decides the order of the windows.
            size: Root mean square of the base's rows.

        Raises:
            RefitError: If the loss is not finite.
        """
        learn, held = lessons
        most = EPOCHS * math.ceil(len(learn) / BATCH)
        before = self.distance(held, start)
        rows = nn.Parameter(start.clone())
        optimizer = torch.optim.Adam([rows], lr=RATE * size, betas=(0.9, 0.99))
        order, begun = _order(len(learn), seed), time.monotonic()
        found = self.progress.find() if self.progress else None
        total, done = (steps if steps is not None and learn else most), 0
        if found is not None:
            total, done = found.total, found.done
            _restore(optimizer, rows, found)
            for _ in range(done):
                next(order)
        resumed = done
        with bar("match input rows", total, done=done) as advance:
            while done < total:
                batch = [learn[number] for number in next(order)]
                loss = self._step(batch, rows, optimizer, _rate(done, total) * RATE * size)
                done += 1
                if not math.isfinite(loss):
                    raise RefitError(
                        f"the states of {self.name} are not finite at step {done} of matching; "
                        "refit in float32 on the CPU (--device cpu), or without it"
                    )
                if steps is None and done == min(MEASURED, most):
                    each = (time.monotonic() - begun) / (done - resumed)
                    affordable = max(done, int(minutes * 60 / max(each, 1e-9)))
                    # All ranks must take equally many.
                    said = self.ranks.share(str(min(most, affordable)).encode())
                    total = int(said[0])
                if self.progress:
                    reached = _reached(optimizer, rows, done, total)
                    self.progress.keep(reached, now=done == total)
                advance(1)
        made = rows.detach()
        after = self.distance(held, made)
        kept = after < before
        return Matched(made if kept else start, before, after, done, kept)

    @torch.no_grad()
    def distance(self, lessons: Sequence[Lesson], rows: Tensor) -> float:
        """Measure how far the states are from the base's, over their variance."""
        apart, square, total, count = 0.0, 0.0, torch.zeros(rows.shape[1], dtype=torch.float64), 0
        for at in range(0, len(lessons), BATCH):
            batch = lessons[at : at + BATCH]
            wanted = taught(self.base, batch, self.name, rows.device)
            with self._with(rows):
                found = self._states(batch)
            apart += float((found - wanted).double().square().sum())
            square += float(wanted.double().square().sum())
            total += wanted.double().sum(0).cpu()
            count += len(wanted)
        if not count:
            return 0.0
        return apart / max(square - float(total.square().sum()) / count, 1e-30)

    def _step(
        self, batch: Sequence[Lesson], rows: nn.Parameter, optimizer: torch.optim.Adam, rate: float
    ) -> float:
        ranks = self.ranks
        mine = batch[ranks.rank :: ranks.world]
        sums = torch.zeros(1, dtype=torch.float64)
        optimizer.zero_grad(set_to_none=True)
        rows.grad = torch.zeros_like(rows)
        wanted = taught(self.base, mine, self.name, rows.device).clone() if mine else rows[:0]
        # However many ranks share a step, it is measured by the variance of all its states.
        moments = torch.stack([wanted.double().sum(0), wanted.double().square().sum(0)]).detach()
        ranks.add(moments)
        whole = float(moments[1].sum() - moments[0].square().sum() / int(lesson_mask(batch).sum()))
        if mine:
            with self._with(rows), torch.enable_grad():
                found = self._states(mine)
                loss = (found - wanted).square().sum() / max(whole, 1e-30)
                # Of the rows alone: those of the body would take as much memory as it does.
                (rows.grad,) = torch.autograd.grad(loss, rows)
            sums += float(loss.detach())
        ranks.add(rows.grad)
        ranks.add(sums)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return float(sums)

    def _states(self, batch: Sequence[Lesson]) -> Tensor:
        inputs = padded([one.read for one in batch]).to(self.place.device)
        states = body_states(self.model, inputs, self.name)
        return states[lesson_mask(batch).to(states.device)].float()

    @contextmanager
    def _with(self, rows: Tensor) -> Iterator[None]:
        """Let the embedding give these rows, in the body of the block."""
        embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        factor = scale_of(embedding)

        def give(_module: nn.Module, read: tuple[Any, ...], made: Tensor) -> Tensor:
            place = self.place[read[0]]
            given = (rows[place.clamp_min(0)] * factor).to(made.dtype)
            return torch.where((place >= 0)[..., None], given, made)

        hook = embedding.register_forward_hook(give)
        try:
            yield
        finally:
            hook.remove()


@torch.no_grad()
def scale_of(embedding: nn.Module) -> float:
    """Find the factor by which an embedding multiplies its rows, by looking."""
    weight: Any = embedding.weight
    ids = torch.arange(min(64, len(weight)), device=weight.device)
    made, rows = embedding(ids).double(), weight[ids].double()
    factor = float((made * rows).sum() / rows.square().sum().clamp_min(1e-30))
    return 1.0 if abs(factor - 1) < 1e-6 else factor


def _reached(optimizer: torch.optim.Adam, rows: nn.Parameter, done: int, total: int) -> Reached:
    state = optimizer.state[rows]
    return Reached(done, total, rows, state["exp_avg"], state["exp_avg_sq"])


def _restore(optimizer: torch.optim.Adam, rows: nn.Parameter, found: Reached) -> None:
    with torch.no_grad():
        rows.copy_(found.rows)
    optimizer.state[rows] = {
        "step": torch.tensor(float(found.done)),
        "exp_avg": found.first.to(rows.device),
        "exp_avg_sq": found.second.to(rows.device),
    }


def _rate(step: int, total: int) -> float:
    """Rise to 1 and fall along half a cosine."""
    return min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / total))


def _order(count: int, seed: int) -> Iterator[list[int]]:
    """Deal out all windows, in another order each time."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[at : at + BATCH] for at in range(0, count, BATCH))
