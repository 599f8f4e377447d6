"""Every missing row becomes zero."""

from typing import TYPE_CHECKING, ClassVar

from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows


class Zero(Method):
    """Zeros: a baseline of the OMP paper, and a trap in the output role.

    The logit of a zero row is 0, which outranks every token whose logit is negative.
    """

    summary: ClassVar[str] = "zeros; in the output role their logit 0 can outrank real tokens"
    paper: ClassVar[str] = "a baseline of arXiv 2506.06607"

    def cost(self, sizes: Sizes) -> Cost:  # noqa: ARG002 - nothing costs nothing
        """See :meth:`Method.cost`."""
        return Cost()

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        from tokswap.solvers.sparse import SparseRows

        empty: list[list[int]] = [[] for _ in problem.ids]
        return SparseRows.from_lists(empty, [[] for _ in problem.ids], problem.columns)
