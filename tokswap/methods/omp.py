"""A missing row is a sparse combination of anchors, found in the donor and replayed in the base."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.blocks import ROWS
from tokswap.errors import MethodError
from tokswap.memory import all_memory, show_size
from tokswap.methods.anchors import Outliers, check_anchor_count
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare

if TYPE_CHECKING:
    from tokswap.solvers.omp import Pursuit

MOST = 64
"""Anchors that a wide donor's rows are made of where nothing else is said."""
PART = 16
"""Numbers of a donor's row for each anchor where nothing else is said: with more anchors than that
a row is described by what only the donor has."""


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

    k: int | None = Field(
        default=None,
        gt=0,
        description="anchors for each missing token, at most; without it a sixteenth of the "
        f"donor's width, and {MOST} at most",
    )
    rtol: float = Field(
        default=1e-4,
        ge=0.0,
        lt=1.0,
        strict=False,
        description="a residual this small next to the donor's row ends the search",
    )
    normalize: bool = Field(default=True, description="choose anchors by angle, not inner product")
    ridge: float = Field(
        default=0.0,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="shrinks the weights of the anchors chosen (at unit length)",
    )
    mode: Literal["auto", "exact", "fast"] = Field(
        default="auto",
        description="score all anchors at each step, or a shortlist that is renewed when it is "
        "spent; auto is fast from 8,192 anchors on",
    )
    look: Literal["auto", "gram", "product"] = Field(
        default="auto",
        description="how shortlists are found: by products of all pairs of anchors (faster on a "
        "CPU, needs anchors² bytes), or with each token; auto is gram where a quarter of the "
        "machine's memory holds them",
    )
    center: Center = True
    outliers: Outliers = 4.0

    @property
    def needs_donor(self) -> bool:
        """See :attr:`Method.needs_donor`."""
        return True

    def steps(self, width: int, anchors: int) -> int:
        """Return how many anchors a row is made of at most: what was said, or what is fit.

        Args:
            width: E.
            anchors: N.
        """
        return self.k or max(1, min(MOST, width // PART, anchors))

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        from tokswap.solvers.omp import FAST_FROM
        from tokswap.solvers.shortlist import LISTED

        steps = self.steps(sizes.donor_width, sizes.anchors)
        found = recombined_cost(sizes, steps + int(self.center), targets=ROWS)
        # A block's bases and shortlists; and the products of all pairs, where they are held.
        block = 4 * ROWS * (steps + 2 * LISTED) * sizes.donor_width
        pairs = sizes.anchors**2
        held = self.look == "gram" or (self.look == "auto" and pairs <= all_memory() // 4)
        held = held and self.mode != "exact" and sizes.anchors >= FAST_FROM
        return replace(found, memory=found.memory + block + (pairs if held else 0))

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`."""
        import torch

        geometry = compare(problem, "omp", center=self.center, outliers=self.outliers)
        steps = self.steps(geometry.width, len(geometry.anchors))
        geometry.check_anchors(steps, f"k={steps}", "lower method.k or ")
        self._check_width(problem.alignment.donor.name, geometry.width)
        pursuit = self._pursuit(geometry, steps)
        # What other kinds of OMP make of the answer is not in the blocks.
        settings = {name: getattr(self, name) for name in OMP.model_fields} | {"k": steps}
        settings |= {"mode": pursuit.mode, "look": pursuit.look}
        settings["low"] = str(pursuit.low)
        if pursuit.low != torch.float32:  # such products round otherwise with other rows beside
            settings["batch"] = pursuit.batch
        indices, weights = geometry.solve(pursuit.solve, kept_by=settings)
        return geometry.recombined(indices, weights)

    def _pursuit(self, geometry: Geometry, steps: int) -> "Pursuit":
        """Make the anchors ready.

        Raises:
            MethodError: If the memory is too little.
        """
        from tokswap.solvers.omp import Pursuit, TooLittleMemoryError

        problem = geometry.problem
        try:
            return Pursuit(
                geometry.atoms().to(problem.device),
                steps,
                mode=self.mode,
                normalize=self.normalize,
                ridge=self.ridge,
                rtol=self.rtol,
                memory=problem.memory,
                look=self.look,
                expected=len(geometry.places),
                pairs=all_memory() // 4,
            )
        except TooLittleMemoryError as error:
            instead = ", or set method.look=product" if error.look == "gram" else ""
            raise MethodError(
                f"omp with k={steps} on {len(geometry.anchors)} anchors of width "
                f"{geometry.width} needs {show_size(error.least)} at least, and may take "
                f"{show_size(problem.memory)}; give --memory {show_size(error.least)} or more"
                f"{instead}"
            ) from error

    def check(self, sizes: Sizes) -> None:
        """See :meth:`Method.check`.

        Raises:
            MethodError: If k is more than there are anchors or dimensions.
        """
        if not sizes.donor_width or not sizes.missing:
            return
        donor = sizes.alignment.donor.name
        needed = self.steps(sizes.donor_width, sizes.anchors)
        check_anchor_count("omp", f"k={needed}", needed, sizes.anchors, donor, "lower method.k or ")
        self._check_width(donor, sizes.donor_width)

    def _check_width(self, donor: str, width: int) -> None:
        if self.k and self.k > width:
            raise MethodError(
                f"omp with k={self.k} has more coefficients than {donor!r} has dimensions "
                f"({width}), so every row could be matched by chance; lower method.k"
            )
