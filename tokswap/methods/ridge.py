"""A missing row is its donor's row under a linear map, fitted to the anchors' rows."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes, mapped_cost
from tokswap.methods.geometry import Center, compare
from tokswap.progress import note

if TYPE_CHECKING:
    from torch import Tensor


class Ridge(Method):
    """Ridge regression from the donor's rows to the base's, over the anchors.

        new  =  mean(b) + (y - mean(a)) A
        A    =  argmin Σ |(a_i - mean(a)) A - b_i + mean(b)|² + λ |A|²

    ``penalty`` is λ in units of the mean eigenvalue of Σ (a_i - mean(a))ᵀ(a_i - mean(a)); without
    one, that with the least error by generalised cross-validation is taken. Directions in which the
    models do not agree are drawn to the mean, so that rows are shorter than the base's own. The
    rows are no combination of base rows, so that the plan serves this width alone.

    Tokens for which the donor has no row, or a zero one, are filled by the mean of their pieces.
    """

    summary: ClassVar[str] = "the donor's rows, predicted in the base's space by ridge regression"
    paper: ClassVar[str] = "Dinu, Lazaridou and Baroni 2015, arXiv 1412.6568"

    penalty: float | None = Field(
        default=None,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="strength of the ridge next to the anchors' spread; without it, by "
        "generalised cross-validation",
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
        return True

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        return mapped_cost(sizes)

    def fill(self, problem: Problem) -> "Tensor":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are too few anchors to fit a map.
        """
        from tokswap.solvers.linear_map import ridge

        geometry = compare(problem, "ridge", center=False, outliers=self.outliers)
        base = geometry.base_table()
        if self.penalty == 0:
            needed, said = geometry.width + int(self.center), "penalty=0"
            geometry.check_anchors(needed, said, "raise method.penalty or ")
        else:
            geometry.check_anchors(1 + int(self.center), "any penalty")
        known = geometry.moments(base, center=self.center)
        fitted, penalty = ridge(known, penalty=self.penalty)
        note(f"ridge, {problem.role} rows: penalty {penalty:.2g}")
        (rows,) = geometry.solve(lambda targets: (fitted.apply(targets),))
        return geometry.replaced(rows)
