"""Answers that have weights for some of the tokens, and the mean of their pieces for the rest."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tokswap.methods.base import Problem
from tokswap.methods.pieces import Pieces
from tokswap.progress import note

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.solvers.sparse import SparseRows


def with_pieces(
    problem: Problem, places: "Tensor", solved: "SparseRows", *, method: str
) -> "SparseRows":
    """Put weights to their tokens, and fill the tokens without any by the mean of their pieces.

    How many those are is told, for with a short text they may be nearly all.

    Args:
        problem: The rows to fill.
        places: (P,) int64 places in the problem's ids of the tokens with weights.
        solved: (P, S + 1) their weights.
        method: What the note calls the method.

    Returns:
        (M, S + 1).
    """
    import torch

    count = len(problem.ids)
    unsolved = torch.ones(count, dtype=torch.bool)
    unsolved[places] = False
    left = unsolved.nonzero()[:, 0]
    ids = [problem.ids[place] for place in left.tolist()]
    tell_left(problem, len(ids), method)
    pieces = Pieces().fill(replace(problem, ids=ids))
    return solved.scatter(places, count).combine(pieces.scatter(left, count), 1.0, 1.0)


def tell_left(problem: Problem, left: int, method: str) -> None:
    """Tell how many tokens a method knows nothing of but their pieces."""
    if left and problem.purpose == "rows":  # held-out tokens have no pieces, nor rows to be written
        note(
            f"{method}, {problem.role} {problem.purpose}: {left:,} of {len(problem.ids):,} tokens "
            "are made of their pieces alone, for what it learns from tells nothing of them"
        )
