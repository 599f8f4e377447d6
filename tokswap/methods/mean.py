"""Every missing row becomes the mean of the base's rows."""

from typing import TYPE_CHECKING, ClassVar

from tokswap.methods.base import Method, Problem

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows


class Mean(Method):
    """The mean of all ordinary base rows: no guess at all, and hard to beat where little is known.

    The logit of such a head row is the average logit, so the token is hardly ever predicted.
    """

    summary: ClassVar[str] = "the mean of the base's rows, the same for every missing token"
    paper: ClassVar[str] = "Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html"

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        import torch

        from tokswap.solvers.sparse import SparseRows

        ids = torch.full((len(problem.ids),), problem.mean_column)
        return SparseRows.selection(ids, problem.columns)
