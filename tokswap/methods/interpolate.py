"""A missing row is an average of the anchors nearest to it in the donor."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.anchors import Outliers
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.cost import Cost, Sizes, recombined_cost
from tokswap.methods.geometry import Center, Geometry, compare

if TYPE_CHECKING:
    from torch import Tensor


class Interpolate(Method):
    """Interpolation between the k nearest anchors, with the same weights in the base.

        new  =  Σ w_i b_i        over the k anchors whose donor's rows a_i are nearest to y

    ``inverse_distance`` and ``softmax`` go by the distances d_i alone (w_i ~ 1 / d_i, or
    exp(-d_i / temperature), where 1 - cosine is the distance by cosine) and add up to 1.
    ``barycentric`` weights add up to 1 and bring Σ w_i a_i as near to y as they can,
    ``least_squares`` weights need not add up to 1; of centred rows, what they lack is the weight of
    the anchors' mean.

    It is how WECHSEL and FOCUS fill rows, which find the neighbours in word vectors trained for
    that, WECHSEL by softmax with k = 10 and temperature 0.1; here the donor's rows tell.
    Tokens for which the donor has no row, or a zero one, are filled by the mean of their pieces.
    """

    summary: ClassVar[str] = "an average of the nearest anchors in the donor's space"
    paper: ClassVar[str] = (
        "as WECHSEL (Minixhofer et al., NAACL 2022) and FOCUS (Dobler and de Melo, EMNLP 2023); "
        "barycentric: Roweis and Saul, Science 290, 2000"
    )

    k: int = Field(default=10, gt=0, description="neighbours of each missing token")
    metric: Literal["cosine", "euclidean"] = Field(
        default="cosine", description="what is near: by angle, or by distance"
    )
    weights: Literal["inverse_distance", "softmax", "barycentric", "least_squares"] = Field(
        default="softmax", description="how neighbours are weighted"
    )
    temperature: float = Field(
        default=0.1,
        gt=0.0,
        allow_inf_nan=False,
        strict=False,
        description="of `softmax`: the higher, the more alike the weights",
    )
    penalty: float = Field(
        default=0.0,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="ridge of `barycentric` and `least_squares`, next to the neighbours' spread",
    )
    center: Center = True
    outliers: Outliers = 4.0

    @property
    def needs_donor(self) -> bool:
        """See :attr:`Method.needs_donor`."""
        return True

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        rest = self.center and self.weights == "least_squares"
        return recombined_cost(sizes, self.k + int(rest))

    def fill(self, problem: Problem) -> WithAverages:
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are fewer anchors than neighbours, or too few dimensions to fit
                their weights.
        """
        geometry = compare(problem, "interpolate", center=self.center, outliers=self.outliers)
        geometry.check_anchors(self.k, f"k={self.k}", "lower method.k or ")
        fitted = self.weights in {"barycentric", "least_squares"}
        if fitted and self.k > geometry.width:
            raise MethodError(
                f"interpolate with k={self.k} and {self.weights} weights has more coefficients "
                f"than {problem.alignment.donor.name!r} has dimensions ({geometry.width}), so "
                "every row could be matched by chance; lower method.k"
            )
        indices, weights = self._solve(geometry, fitted=fitted)
        return geometry.recombined(indices, weights, complete=self.weights != "least_squares")

    def _solve(self, geometry: Geometry, *, fitted: bool) -> "tuple[Tensor, ...]":
        from tokswap.solvers.neighbours import fit, nearest, weigh

        atoms = geometry.atoms().to(geometry.device)

        def solve(targets: "Tensor") -> "tuple[Tensor, Tensor]":
            indices, distances = nearest(targets, atoms, self.k, metric=self.metric)
            if fitted:
                return indices, fit(targets, atoms, indices, self.weights, penalty=self.penalty)
            return indices, weigh(distances, self.weights, temperature=self.temperature)

        return geometry.solve(solve)
