"""A missing row is made of the base's rows of the token's pieces."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows

Decay = Annotated[
    float,
    Field(gt=0.0, le=1.0, strict=False, description="factor per piece of `decayed`"),
]
"""The setting ``decay``."""


class Pieces(Method):
    """The rows of the pieces into which the base's tokenizer cuts the token's bytes, combined.

    ``first`` suits the output role, where the first piece is what the base would have predicted;
    ``last`` suits the input role, where the model has read the token to its end. ``decayed``
    weighs the first piece most and each later one by ``decay`` less. ``asymmetric`` is ``last`` as
    input and ``decayed`` as output; a base with one table for both roles has it filled as input.
    ``suited`` is ``asymmetric`` too, but ``mean`` where one table serves both roles: there the last
    piece alone would be predicted instead of the token.
    """

    summary: ClassVar[str] = "rows of the token's pieces under the base's tokenizer, combined"
    paper: ClassVar[str] = "FVT (Gee et al., EMNLP 2022 industry, 41); ReTok (arXiv 2410.04335)"

    strategy: Literal["mean", "first", "last", "decayed", "asymmetric", "suited"] = Field(
        default="mean",
        description="how the pieces are weighted; `asymmetric` is `last` as input and `decayed` "
        "as output; `suited` too, but `mean` for a base with one table",
    )
    decay: Decay = 0.5

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return self.strategy in {"asymmetric", "suited"}

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        single = self.strategy in {"first", "last"}
        return Cost(weights=sizes.missing if single else sizes.pieces)

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        from tokswap.solvers.sparse import SparseRows

        pieces = problem.alignment.pieces
        rows = [pieces[number] or [problem.mean_column] for number in problem.ids]
        strategy = self.strategy
        if strategy == "suited":
            strategy = "mean" if problem.tied else "asymmetric"
        if strategy == "asymmetric":
            strategy = "last" if problem.role == "input" else "decayed"
        weights = [self._weights(strategy, len(row)) for row in rows]
        return SparseRows.from_lists(rows, weights, problem.columns)

    def _weights(self, strategy: str, count: int) -> list[float]:
        if strategy == "first":
            return [1.0] + [0.0] * (count - 1)
        if strategy == "last":
            return [0.0] * (count - 1) + [1.0]
        factor = self.decay if strategy == "decayed" else 1.0
        raw = [factor**place for place in range(count)]
        return [weight / sum(raw) for weight in raw]
