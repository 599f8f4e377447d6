"""A missing row is found in the base by its angles to shared landmarks."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare

if TYPE_CHECKING:
    from torch import Tensor


class Landmarks(Method):
    """Relative representations: a row is known by its cosines to L anchors, the landmarks.

    The cosines r_l = cos(y, a_l) of the donor's row y to the donor's rows a_l of the landmarks are
    the same in every space that is turned, mirrored or scaled. The new row is the one whose cosines
    to the base's rows b_l come nearest to them, which is a combination of these rows:

        new  =  n · d / |d|,    d = Σ w_l b_l / |b_l|,    w = (K + λ)⁻¹ r,    K_lm = cos(b_l, b_m)

    Its length n is predicted from that of y, by a line through the logarithms of the anchors'
    lengths. With ``center`` all rows are taken off the anchors' mean before, and it is put back.
    Without a penalty the answer is exact for a base that is the donor turned, where L landmarks
    span the space, so ``count`` should not be far below the base's width.

    The paper feeds such cosines to a network trained on them; to find a row by them, a small ridge
    problem, is ours. Tokens for which the donor has no row, or a zero one, are filled by the mean
    of their pieces.
    """

    summary: ClassVar[str] = "the row with the same angles to shared landmarks as in the donor"
    paper: ClassVar[str] = "Moschella et al., ICLR 2023, arXiv 2209.15430"

    count: int = Field(default=512, gt=0, description="landmarks, which are some of the anchors")
    choice: Literal["random", "farthest"] = Field(
        default="random", description="landmarks at random, or each far from the others by angle"
    )
    penalty: float = Field(
        default=0.1,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="λ: the higher, the less is made of small differences between landmarks",
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

    @property
    def draws(self) -> bool:
        """See :attr:`Method.draws`."""
        return True

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        found = recombined_cost(sizes, self.count + int(self.center))
        # The anchors' rows in the base too, and the landmarks' products with each other.
        more = 4 * 2 * sizes.anchors * sizes.base_width + 4 * 8 * self.count**2
        return replace(found, memory=found.memory + more)

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are fewer anchors than landmarks.
        """
        geometry = compare(problem, "landmarks", center=self.center, outliers=self.outliers)
        geometry.check_anchors(self.count, f"count={self.count}", "lower method.count or ")
        atoms, rows = geometry.atoms(), geometry.base_rows()
        chosen = self._choose(problem, atoms)
        weights = self._solve(geometry, atoms, rows, chosen)
        return geometry.recombined(chosen.expand(len(weights), -1), weights)

    def _choose(self, problem: Problem, atoms: "Tensor") -> "Tensor":
        """Choose the landmarks: (L,) int64, ascending."""
        import torch

        from tokswap.solvers.landmarks import farthest

        shuffled = torch.randperm(len(atoms), generator=problem.generator)
        if self.choice == "farthest":
            return farthest(atoms, self.count, first=int(shuffled[0]))
        return shuffled[: self.count].sort().values

    def _solve(
        self, geometry: Geometry, atoms: "Tensor", rows: "Tensor", chosen: "Tensor"
    ) -> "Tensor":
        from tokswap.solvers.landmarks import Landmarks as Solver
        from tokswap.solvers.landmarks import predict_lengths

        device = geometry.device
        solver = Solver(atoms[chosen].to(device), rows[chosen].to(device), penalty=self.penalty)
        known = atoms.norm(dim=1).to(device), rows.norm(dim=1).to(device)

        def solve(targets: "Tensor") -> "tuple[Tensor]":
            return (solver.weigh(targets, predict_lengths(*known, targets.norm(dim=1))),)

        (weights,) = geometry.solve(solve)
        return weights
