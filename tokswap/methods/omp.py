"""A missing row is a sparse combination of anchors, found in the donor and replayed in the base."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare
from tokswap.progress import bar

if TYPE_CHECKING:
    from torch import Tensor


class OMP(Method):
    """Orthogonal matching pursuit over the anchors.

    The donor's row y of a missing token is written as a combination of the donor's rows a_i of at
    most ``k`` anchors; the same combination of the base's rows b_i is the new row:

        y - mean(a)  ≈  Σ w_i (a_i - mean(a)),     new  =  mean(b) + Σ w_i (b_i - mean(b))

    ``center`` is for the rows' common part, which says how frequent tokens are: without
    it the weights need not add up to 1, and the new token's logits drift. ``outliers`` keeps rows
    that were hardly ever trained, in either model, out of the anchors: they say nothing of their
    tokens, and short ones would be chosen by angle with weights out of all proportion.
    With ``normalize`` (the textbook's algorithm) anchors are chosen by angle, without it by the
    inner product, which prefers long rows. The published implementation is ``normalize: false,
    center: false, outliers: null``.

    Tokens for which the donor has no row, or a zero one, are filled by the mean of their pieces.
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
    center: Center = True
    outliers: Outliers = 4.0

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        return recombined_cost(sizes, self.k + int(self.center), targets=sizes.missing)

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`."""
        geometry = compare(problem, "omp", center=self.center, outliers=self.outliers)
        self._check(geometry)
        return geometry.recombined(*self._solve(geometry, problem))

    def _solve(self, geometry: Geometry, problem: Problem) -> "tuple[Tensor, Tensor]":
        from tokswap.solvers.omp import orthogonal_matching_pursuit

        with bar(f"omp, {problem.role} rows", len(geometry.places)) as advance:
            return orthogonal_matching_pursuit(
                geometry.targets().to(problem.device),
                geometry.atoms().to(problem.device),
                self.k,
                normalize=self.normalize,
                rtol=self.rtol,
                progress=advance,
            )

    def _check(self, geometry: Geometry) -> None:
        geometry.check_anchors(self.k, f"k={self.k}", "lower method.k or ")
        if self.k > geometry.width:
            donor = geometry.problem.alignment.donor.name
            raise MethodError(
                f"omp with k={self.k} has more coefficients than {donor!r} has dimensions "
                f"({geometry.width}), so every row could be matched by chance; lower method.k"
            )
