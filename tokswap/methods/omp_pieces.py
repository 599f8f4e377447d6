"""OMP's rows; in the embedding half of each is the row of the token's last piece."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from tokswap.methods.base import Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes
from tokswap.methods.omp import OMP
from tokswap.methods.pieces import Pieces


class OMPPieces(OMP):
    """Orthogonal matching pursuit, and as input also the token's pieces.

        new_input   =  (1 - share) · omp  +  share · last piece
        new_output  =  omp
        new_tied    =  (1 - share) · omp  +  share · mean of the pieces

    A token that has been read stands where its last piece would have stood, so the base knows how
    to go on from that row; what came before it is what the anchors say. To predict a token is
    another thing: rows in the head that are like those of single pieces take probability from
    these. A tied table is both, and the last piece alone would be predicted instead of the token.
    """

    summary: ClassVar[str] = "omp; as input half of it the row of the token's last piece"
    paper: ClassVar[str] = "chosen by figures (docs/methods.md); its parts are omp's and pieces'"

    share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        strict=False,
        description="of the pieces in the rows of the embedding",
    )

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return self.share > 0

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        found = super().cost(sizes)
        return replace(found, weights=found.weights + (sizes.missing if self.share else 0))

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`; tokens without pieces have OMP's rows alone."""
        import torch

        solved = super().fill(problem)
        if problem.role == "output" or not self.share:
            return solved
        cut = problem.alignment.pieces
        there = torch.tensor([bool(cut[number]) for number in problem.ids])
        pieces = Pieces(strategy="mean" if problem.tied else "last").fill(problem)
        columns = solved.weights.columns
        pieces = pieces.map_columns(torch.arange(pieces.columns), columns)
        shares = there.double() * self.share
        weights = solved.weights.scaled(1.0 - shares).combine(pieces.scaled(shares), 1.0, 1.0)
        return WithAverages(weights, solved.averages)
