"""A missing row is its donor's row, turned as the anchors' rows turn from donor to base."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes, mapped_cost
from tokswap.methods.geometry import Center, compare

if TYPE_CHECKING:
    from torch import Tensor


class Procrustes(Method):
    """A rotation from the donor's space to the base's, fitted to the anchors' rows.

        new  =  mean(b) + s (y - mean(a)) R
        R    =  argmax Σ ⟨(a_i - mean(a)) R, b_i - mean(b)⟩

    over the matrices with orthonormal rows or columns. Where the donor is not the wider one, that
    is the least squares, too, and angles are kept; a wider donor loses the directions that agree
    least with the base. ``scale`` fits the factor s too. The rows are no combination of base rows,
    so that the plan serves this width alone.

    Tokens for which the donor has no row, or a zero one, are filled by the mean of their pieces.
    """

    summary: ClassVar[str] = "the donor's rows, turned into the base's space by a fitted rotation"
    paper: ClassVar[str] = (
        "Schönemann, Psychometrika 31, 1966; for words Artetxe et al., EMNLP 2016; "
        "Smith et al. 2017, arXiv 1702.03859"
    )

    scale: bool = Field(default=True, description="fit the length of the rows as well")
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
            MethodError: If there are too few anchors to fit a rotation.
        """
        from tokswap.solvers.linear_map import procrustes

        geometry = compare(problem, "procrustes", center=False, outliers=self.outliers)
        base = geometry.base_table()
        narrow = min(geometry.width, base.shape[1])
        # Fewer would leave some directions without a word on where they go. One is the mean's.
        needed = narrow + int(self.center)
        geometry.check_anchors(needed, f"rows of width {geometry.width} and {base.shape[1]}")
        known = geometry.moments(base, center=self.center)
        fitted = procrustes(known, scale=self.scale)
        (rows,) = geometry.solve(lambda targets: (fitted.apply(targets),))
        return geometry.replaced(rows)
