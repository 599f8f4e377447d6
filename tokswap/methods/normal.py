"""Every missing row is drawn from a normal distribution fitted to the base's rows."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes

if TYPE_CHECKING:
    from torch import Tensor


class Normal(Method):
    """Samples of the normal distribution with the mean and covariance of the base's used rows."""

    summary: ClassVar[str] = "samples from a normal distribution with the rows' mean and covariance"
    paper: ClassVar[str] = "Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html"

    scale: float = Field(
        default=1.0, ge=0.0, allow_inf_nan=False, strict=False, description="factor on the spread"
    )

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
        width = sizes.base_width
        # The covariance and its eigenvectors, the samples, all in float64.
        memory = 8 * (4 * width + sizes.used + 3 * sizes.missing) * width
        return Cost(dense=True, memory=memory)

    def fill(self, problem: Problem) -> "Tensor":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If the base's rows hold values that are not finite.
        """
        import torch

        from tokswap.solvers.gaussian import sample_rows

        used = torch.from_numpy(problem.alignment.used_base_ids)
        rows = problem.base_table().index_select(0, used)
        if not bool(torch.isfinite(rows).all()):
            raise MethodError(
                f"normal cannot work with the {problem.role} rows of "
                f"{problem.alignment.base.name!r}, which hold NaN or infinite values; fetch them "
                "again or choose another method"
            )
        return sample_rows(rows, len(problem.ids), scale=self.scale, generator=problem.generator)
