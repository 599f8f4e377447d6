"""A missing row is made of the base's rows of the token's pieces."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows


class Pieces(Method):
    """The rows of the pieces into which the base's tokenizer cuts the token's bytes, combined.

    ``first`` suits the output role, where the first piece is what the base would have predicted;
    ``last`` suits the input role, where the model has read the token to its end. ``decayed``
    weighs the first piece most and each later one by ``decay`` less.
    """

    summary: ClassVar[str] = "rows of the token's pieces under the base's tokenizer, combined"
    paper: ClassVar[str] = "FVT (Gee et al., EMNLP 2022 industry, 41); ReTok (arXiv 2410.04335)"

    strategy: Literal["mean", "first", "last", "decayed"] = Field(
        default="mean", description="how the pieces are weighted"
    )
    decay: float = Field(
        default=0.5, gt=0.0, le=1.0, strict=False, description="factor per piece of `decayed`"
    )

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        return Cost(weights=sizes.pieces)

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        from tokswap.solvers.sparse import SparseRows

        pieces = problem.alignment.pieces
        rows = [pieces[number] or [problem.mean_column] for number in problem.ids]
        weights = [self._weights(len(row)) for row in rows]
        return SparseRows.from_lists(rows, weights, problem.columns)

    def _weights(self, count: int) -> list[float]:
        if self.strategy == "first":
            return [1.0] + [0.0] * (count - 1)
        if self.strategy == "last":
            return [0.0] * (count - 1) + [1.0]
        factor = self.decay if self.strategy == "decayed" else 1.0
        raw = [factor**place for place in range(count)]
        return [weight / sum(raw) for weight in raw]
