"""OMP's rows; in the embedding half of each is the row of the token's last piece."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from tokswap.methods.base import Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes
from tokswap.methods.omp import OMP


class OMPLast(OMP):
    """Orthogonal matching pursuit, and as input also the token's last piece.

        new_input  =  (1 - share) · omp  +  share · last piece,      new_output  =  omp

    A token that has been read stands where its last piece would have stood, so the base knows how
    to go on from that row; what came before it is what the anchors say. To predict a token is
    another thing: rows in the head that are like those of pieces take probability from the pieces.
    A tied table, which is both, is filled as input.
    """

    summary: ClassVar[str] = "omp; as input half of it the row of the token's last piece"
    paper: ClassVar[str] = "chosen by figures (docs/methods.md); its parts are omp's and pieces'"

    share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        strict=False,
        description="of the last piece in the rows of the embedding",
    )

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return self.share > 0

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`; a last piece is a weight more at most."""
        found = super().cost(sizes)
        return replace(found, weights=found.weights + (sizes.missing if self.share else 0))

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`; tokens without pieces have OMP's rows alone."""
        import torch

        from tokswap.solvers.sparse import SparseRows

        solved = super().fill(problem)
        if problem.role == "output" or not self.share:
            return solved
        pieces = problem.alignment.pieces
        last = torch.tensor([(pieces[number] or [-1])[-1] for number in problem.ids])
        kept = torch.where(last < 0, 1.0, 1.0 - self.share)
        added = SparseRows.selection(last.long(), solved.weights.columns)
        weights = solved.weights.scaled(kept).combine(added, 1.0, self.share)
        return WithAverages(weights, solved.averages)
