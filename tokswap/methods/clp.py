"""A missing row is the anchors' average, weighted by how similar they are in the donor."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import BLOCKS, ROWS, Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare

if TYPE_CHECKING:
    from torch import Tensor


class CLP(Method):
    """CLP-Transfer: a helper model that has the new vocabulary tells which anchors are similar.

        new  =  Σ w_i b_i,      w_i = max(cos(y, a_i), 0) / Σ_j max(cos(y, a_j), 0)

    The helper is the donor: y is its row of the missing token, a_i are its rows of the anchors, and
    b_i the base's. The paper goes over all anchors, which with rows as they are is nearly the
    anchors' mean, for all of them point to one side and no cosine is far from the others; its code
    lets negative cosines subtract. Here they are cut, and the sum goes over the ``k`` most similar
    anchors, by what differs from the anchors' mean. ``k: null`` with ``center: false`` is the
    paper's; a row is then a sum over all N anchors, so that the rows themselves are kept in the
    plan, which serves this base alone.

    Where no cosine is above 0, the most similar anchor is taken alone. Tokens for which the donor
    has no row, or a zero one, are filled by the mean of their pieces.
    """

    summary: ClassVar[str] = "the anchors' average, weighted by their cosine in the donor"
    paper: ClassVar[str] = "CLP-Transfer (Ostendorff and Rehm 2023, arXiv 2301.09626)"

    k: int | None = Field(
        default=10, gt=0, description="the most similar anchors; null for all, as in the paper"
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
        return self.k is None

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        if self.k is not None:
            return recombined_cost(sizes, self.k)
        # The anchors' rows in both models, in the donor's as they are, off their mean and at unit
        # norm; the targets; the rows as they are put to their places.
        targets = min(ROWS, sizes.missing)
        rows = (3 * sizes.anchors + 2 * targets) * sizes.donor_width
        rows += (sizes.anchors + targets + 2 * sizes.missing) * sizes.base_width
        return Cost(dense=True, memory=4 * rows + BLOCKS)

    def fill(self, problem: Problem) -> "WithAverages | Tensor":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are fewer anchors than are asked for.
        """
        geometry = compare(problem, "clp", center=self.center, outliers=self.outliers)
        if self.k is None:
            return self._over_all(geometry)
        from tokswap.solvers.neighbours import nearest
        from tokswap.solvers.similarity import share

        k = self.k
        geometry.check_anchors(k, f"k={k}", "lower method.k or ")
        atoms = geometry.atoms().to(geometry.device)

        def solve(targets: "Tensor") -> "tuple[Tensor, Tensor]":
            indices, distances = nearest(targets, atoms, k)
            return indices, share(1 - distances)

        return geometry.recombined(*geometry.solve(solve), complete=True)

    def _over_all(self, geometry: Geometry) -> "Tensor":
        from tokswap.solvers.similarity import average

        geometry.check_anchors(1, "all anchors")
        atoms = geometry.atoms().to(geometry.device)
        base = geometry.base_table().index_select(0, geometry.base_ids)
        base = base.float().to(geometry.device)
        (rows,) = geometry.solve(lambda targets: (average(targets, atoms, base),))
        return geometry.replaced(rows)
