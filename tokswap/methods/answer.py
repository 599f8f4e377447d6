"""Answers of methods in one form, so that they can be mixed and joined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokswap.methods.base import Problem, WithAverages

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.solvers.sparse import SparseRows


@dataclass(frozen=True, eq=False)
class Answer:
    """The rows of M tokens: combinations of base rows, and rows that are held as they are.

    Attributes:
        weights: (M, S + 1 + A) over the base's rows, their mean, and the averages; empty for rows
            that are held.
        averages: (A, S), each average as a combination of base rows.
        places: (R,) int64, ascending: which of the M rows are held.
        rows: (R, D) float32, those rows.
        bias: (R,) float32, what the base's head adds to their logits; None where nothing is said.
    """

    weights: "SparseRows"
    averages: "SparseRows"
    places: "Tensor"
    rows: "Tensor"
    bias: "Tensor | None" = None

    @classmethod
    def of(cls, filled: "SparseRows | WithAverages | Tensor | Answer", base_rows: int) -> "Answer":
        """Bring what a method has answered into this form.

        Args:
            filled: The method's answer, for M tokens.
            base_rows: S.
        """
        import torch

        from tokswap.solvers.sparse import SparseRows

        if isinstance(filled, Answer):
            return filled
        none, no_rows = torch.empty(0, dtype=torch.int64), torch.empty(0, 0)
        no_averages = SparseRows.from_lists([], [], base_rows)
        if isinstance(filled, WithAverages):
            return cls(filled.weights, filled.averages, none, no_rows)
        if isinstance(filled, SparseRows):
            return cls(filled, no_averages, none, no_rows)
        empty = SparseRows.from_lists([[]] * len(filled), [[]] * len(filled), base_rows + 1)
        return cls(empty, no_averages, torch.arange(len(filled)), filled.float().cpu())

    def __len__(self) -> int:
        return len(self.weights)

    def held(self, places: "Tensor", problem: Problem) -> "Tensor":
        """Compute some of the rows, (P, D) float32, from the base's table of the problem's role.

        Args:
            places: (P,) which of the M rows.
            problem: What was asked.
        """
        import torch

        from tokswap.solvers.sparse import SparseRows

        alignment = problem.alignment
        used = SparseRows.mean_of(alignment.used_base_ids.tolist(), alignment.base_rows)
        # In float32 throughout: what is held is rounded to the table's type when it is written.
        table = problem.base_table().float()
        below = SparseRows.concatenate([used, self.averages]).apply(table)
        made = self.weights.apply(table, below=below)
        if len(self.places):
            made[self.places] = self.rows
        return made.index_select(0, torch.as_tensor(places))


def weighted(answers: Sequence[Answer], shares: Sequence[float], problem: Problem) -> Answer:
    """Add answers for the same tokens, each times its share.

    A row that one of them holds as it is will be held; else weights are added to weights. What is
    said of the bias is left out, for the others have no word on it.
    """
    import torch

    from tokswap.solvers.sparse import SparseRows

    averages, widened = _side_by_side(answers, problem.columns)
    count = len(problem.ids)
    places = torch.unique(torch.cat([answer.places for answer in answers]))
    rows = torch.empty(0, 0)
    if len(places):
        parts = (answer.held(places, problem) for answer in answers)
        rows = sum(
            (share * part for share, part in zip(shares, parts, strict=True)), torch.zeros(1)
        )
    total = SparseRows.from_lists([[]] * count, [[]] * count, widened[0].columns)
    for share, weights in zip(shares, widened, strict=True):
        total = total.combine(weights, 1.0, share)
    return Answer(total.without(places), averages, places, rows)


def joined(answers: Sequence[Answer], members: Sequence[Sequence[int]], problem: Problem) -> Answer:
    """Put answers for some of the tokens each together.

    Args:
        answers: One for each group of tokens.
        members: The places of each group among the problem's tokens; every place once.
        problem: What was asked.
    """
    import torch

    from tokswap.solvers.sparse import SparseRows

    averages, widened = _side_by_side(answers, problem.columns)
    count = len(problem.ids)
    total = SparseRows.from_lists([[]] * count, [[]] * count, widened[0].columns)
    placed = [torch.tensor(group, dtype=torch.int64) for group in members]
    for weights, group in zip(widened, placed, strict=True):
        total = total.combine(weights.scatter(group, count), 1.0, 1.0)
    pairs = list(zip(answers, placed, strict=True))
    held = [(group[answer.places], answer.rows) for answer, group in pairs if len(answer.places)]
    if not held:
        return Answer(total, averages, torch.empty(0, dtype=torch.int64), torch.empty(0, 0))
    places, order = torch.cat([where for where, _ in held]).sort()
    said = [answer.bias for answer in answers if len(answer.places)]
    biases = [bias[:, None] for bias in said if bias is not None]
    bias = torch.cat(biases)[order, 0] if len(biases) == len(said) else None
    return Answer(total, averages, places, torch.cat([rows for _, rows in held])[order], bias)


def _side_by_side(answers: Sequence[Answer], columns: int) -> "tuple[SparseRows, list[SparseRows]]":
    """Give every answer columns for the averages of all of them."""
    import torch

    from tokswap.solvers.sparse import SparseRows

    averages = SparseRows.concatenate([answer.averages for answer in answers])
    widened, start = [], columns
    for answer in answers:
        own = torch.arange(start, start + len(answer.averages))
        ids = torch.cat([torch.arange(columns), own])
        widened.append(answer.weights.map_columns(ids, columns + len(averages)))
        start += len(answer.averages)
    return averages, widened
