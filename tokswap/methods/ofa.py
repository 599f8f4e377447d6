"""A missing row has the average coordinates of similar tokens, in factors of the base's table."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.methods.anchors import Outliers, fit_base_rows
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare

if TYPE_CHECKING:
    from torch import Tensor


class OFA(Method):
    """OFA: the base's rows are coordinates times primitive rows; new tokens get coordinates.

        B  ≈  F P                                     P: the first r right singular vectors of B
        new  =  (Σ w_i f_i) P,      w = softmax(cos(y, a_i) / temperature) over the k most similar

    The paper takes similarities from word vectors of many languages in one space, and the rank r
    well below the width to save parameters. Here the donor's rows tell what is similar, for the
    donor is at hand, knows just these tokens and was trained on more than any word vectors; so the
    similar tokens are anchors.

    An average of coordinates is the coordinates of the average. At full rank, which is the default,
    the factors therefore change nothing, and the answer is sparse weights over base rows. With a
    ``rank`` it is the projection of that average onto P, which takes off what few rows have; then
    the rows are kept in the plan, which serves this base alone. Shared tokens keep the base's rows
    as they are, where the paper has all rows at rank r.

    Tokens for which the donor has no row, or a zero one, are filled by the mean of their pieces.
    """

    summary: ClassVar[str] = "an average of similar anchors' coordinates in the factorised table"
    paper: ClassVar[str] = "OFA (Liu et al., NAACL 2024 findings, arXiv 2311.08849)"

    k: int = Field(default=10, gt=0, description="the most similar anchors of each missing token")
    temperature: float = Field(
        default=0.1,
        gt=0.0,
        allow_inf_nan=False,
        strict=False,
        description="the higher, the more alike the weights",
    )
    rank: int | None = Field(
        default=None,
        gt=0,
        description="coordinates of a row; without it as many as the base is wide",
    )
    center: Center = True
    outliers: Outliers = 4.0

    @property
    def needs_donor(self) -> bool:
        """See :attr:`Method.needs_donor`."""
        return True

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return self.rank is not None

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        found = recombined_cost(sizes, self.k)
        if self.rank is None:
            return found
        # The factors, and the rows on the way to their places.
        more = 8 * 4 * sizes.base_width**2 + 4 * 3 * sizes.missing * sizes.base_width
        return Cost(dense=True, memory=found.memory + more)

    def fill(self, problem: Problem) -> "WithAverages | Tensor":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are fewer anchors than are asked for.
        """
        from tokswap.solvers.neighbours import nearest, weigh

        geometry = compare(problem, "ofa", center=self.center, outliers=self.outliers)
        geometry.check_anchors(self.k, f"k={self.k}", "lower method.k or ")
        atoms = geometry.atoms().to(geometry.device)

        def solve(targets: "Tensor") -> "tuple[Tensor, Tensor]":
            indices, distances = nearest(targets, atoms, self.k)
            return indices, weigh(distances, "softmax", temperature=self.temperature)

        found = geometry.solve(solve)
        if self.rank is None:
            return geometry.recombined(*found, complete=True)
        return geometry.replaced(self._projected(geometry, *found, rank=self.rank))

    def _projected(
        self, geometry: Geometry, indices: "Tensor", weights: "Tensor", *, rank: int
    ) -> "Tensor":
        import torch

        from tokswap.solvers.factors import primitives, project
        from tokswap.solvers.sparse import SparseRows

        base = geometry.base_table()
        sources = SparseRows.from_padded(indices, weights, len(geometry.anchors))
        rows = sources.map_columns(geometry.base_ids, len(base)).apply(base)
        used = geometry.problem.alignment.used_base_ids
        ids = torch.from_numpy(used[fit_base_rows(geometry.problem, self.outliers)[used]])
        return project(rows, primitives(base, ids, rank))
