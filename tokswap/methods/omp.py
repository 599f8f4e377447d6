"""A missing row is a sparse combination of anchors, found in the donor and replayed in the base."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.base import Method, Problem
from tokswap.methods.pieces import Pieces
from tokswap.progress import bar
from tokswap.vocabulary.align import Ids

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.solvers.sparse import SparseRows


SHORTEST = 0.01
"""Length of the shortest row that is used as an anchor, next to the median of all."""


class OMP(Method):
    """Orthogonal matching pursuit over the anchors.

    The donor's row of a missing token is written as a combination of the donor's rows of at most
    ``k`` anchors; the same combination of the base's rows is the new row. Tokens for which the
    donor has no row, or a zero one, are filled by the mean of their pieces.

    With ``normalize`` (the textbook's algorithm) anchors are chosen by angle; without it, by the
    inner product, which prefers long rows (the published implementation).
    """

    summary: ClassVar[str] = "a sparse combination of anchors, solved in the donor's space"
    paper: ClassVar[str] = "Goddard and Fernandes Neto 2025, arXiv 2506.06607"
    needs_donor: ClassVar[bool] = True

    k: int = Field(default=64, gt=0, description="anchors for each missing token, at most")
    rtol: float = Field(
        default=1e-4,
        ge=0.0,
        lt=1.0,
        strict=False,
        description="a residual this small next to the donor's row ends the search",
    )
    normalize: bool = Field(default=True, description="choose anchors by angle, not inner product")

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        import torch

        from tokswap.solvers.omp import orthogonal_matching_pursuit
        from tokswap.solvers.sparse import SparseRows

        table = self._donor_table(problem)
        anchors = _trained(problem, table)
        self._check(problem, len(anchors), table.shape[1])
        solved = [place for place, number in enumerate(problem.ids) if number < len(table)]
        targets = _rows(problem, table, np.array([problem.ids[p] for p in solved]))
        atoms = _rows(problem, table, anchors).to(problem.device)
        with bar(f"omp, {problem.role} rows", len(solved)) as advance:
            indices, weights = orthogonal_matching_pursuit(
                targets.to(problem.device),
                atoms,
                self.k,
                normalize=self.normalize,
                rtol=self.rtol,
                progress=advance,
            )
        found = SparseRows.from_padded(indices.cpu(), weights.cpu(), len(anchors))
        base_ids = torch.from_numpy(problem.alignment.source[anchors])
        found = found.map_columns(base_ids, problem.columns)
        places = torch.tensor(solved, dtype=torch.int64)
        found = found.scatter(places, len(problem.ids))

        empty = torch.diff(found.indptr) == 0
        left = [place for place in range(len(problem.ids)) if empty[place]]
        if left:
            pieces = Pieces().fill(_part(problem, left))
            places = torch.tensor(left, dtype=torch.int64)
            found = found.combine(pieces.scatter(places, len(problem.ids)), 1.0, 1.0)
        return found

    def _donor_table(self, problem: Problem) -> "Tensor":
        if problem.donor_table is None:
            raise MethodError(
                f"omp needs the donor's weights and {problem.alignment.donor.name!r} is a bare "
                "tokenizer; give a model, or choose a method that needs none, such as pieces"
            )
        return problem.donor_table()

    def _check(self, problem: Problem, anchors: int, width: int) -> None:
        donor = problem.alignment.donor.name
        if self.k > anchors:
            raise MethodError(
                f"omp with k={self.k} needs as many anchors, and {donor!r} shares {anchors} tokens "
                "with the base; lower method.k or choose a donor with a closer vocabulary"
            )
        if self.k > width:
            raise MethodError(
                f"omp with k={self.k} has more coefficients than {donor!r} has dimensions "
                f"({width}), so every row could be matched by chance; lower method.k"
            )


def _trained(problem: Problem, table: "Tensor") -> Ids:
    """Leave out anchors whose donor row is missing, or so short that it was never trained.

    By angle such a row may be chosen, and its weight would be the inverse of its length.
    """
    import torch

    anchors = problem.alignment.anchors
    anchors = anchors[anchors < len(table)]
    lengths = _rows(problem, table, anchors).norm(dim=1)
    return (
        anchors[(lengths > SHORTEST * torch.median(lengths)).numpy()] if len(anchors) else anchors
    )


def _rows(problem: Problem, table: "Tensor", ids: Ids) -> "Tensor":
    import torch

    rows = table.index_select(0, torch.from_numpy(ids.astype(np.int64))).float()
    if not bool(torch.isfinite(rows).all()):
        raise MethodError(
            f"omp cannot work with the {problem.role} rows of {problem.alignment.donor.name!r}, "
            "which hold NaN or infinite values; fetch them again, or choose a method that needs "
            "no donor, such as pieces"
        )
    return rows


def _part(problem: Problem, places: list[int]) -> Problem:
    from dataclasses import replace

    return replace(problem, ids=[problem.ids[place] for place in places])
