"""The anchors that are fit to compare two models by."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.base import Problem
from tokswap.vocabulary.align import Ids

if TYPE_CHECKING:
    from torch import Tensor

Outliers = Annotated[
    float | None,
    Field(
        gt=0.0,
        strict=False,
        description="leave out anchors whose rows look untrained in either model: zeros, repeated, "
        "all to one side, or of a log length this many robust deviations off the median",
    ),
]
"""The setting ``outliers``."""


def fit_anchors(problem: Problem, table: "Tensor | None", outliers: float | None) -> Ids:
    """Return the anchors whose rows are fit to compare the models by, in every table that counts.

    Args:
        problem: The rows to fill; where the answer is for other roles too, their tables count.
        table: The donor's table; None for a method that does without.
        outliers: Deviations off the median from which a row's length is odd; None leaves all in.

    Returns:
        (N,) donor ids.
    """
    anchors = problem.alignment.anchors
    if table is not None:
        anchors = anchors[anchors < len(table)]
    if outliers is None or not len(anchors):
        return anchors
    fit = fit_base_rows(problem, outliers)[problem.alignment.source[anchors]]
    if table is not None:
        fit &= ~problem.find_untrained("donor", table, outliers).numpy()[anchors]
        for role in problem.also:
            # A donor with one table has it in both roles.
            found_here = problem.untrained["donor", problem.role, outliers]
            problem.untrained["donor", role, outliers] = found_here
    found: Ids = anchors[np.asarray(fit)]
    return found


def fit_base_rows(problem: Problem, outliers: float | None) -> NDArray[np.bool_]:
    """Tell which of the base's rows look trained, in every table that the answer is for.

    Args:
        problem: The rows to fill.
        outliers: See :func:`fit_anchors`.

    Returns:
        (S,) bool.
    """
    fit = np.ones(problem.alignment.base_rows, dtype=np.bool_)
    if outliers is not None:
        for role, table in {problem.role: problem.base_table, **problem.also}.items():
            fit &= ~problem.find_untrained("base", table(), outliers, role=role).numpy()
    return fit


def check_anchor_count(
    method: str, said: str, needed: int, anchors: int, donor: str, instead: str = ""
) -> None:
    """Check that there are as many anchors as a method needs.

    Args:
        method: What messages call the method.
        said: What needs them, as ``k=64``.
        needed: How many.
        anchors: How many there are.
        donor: The donor's name.
        instead: What else to do than to choose another donor, as ``lower method.k or ``.

    Raises:
        MethodError: If there are fewer.
    """
    if needed > anchors:
        raise MethodError(
            f"{method} with {said} needs {needed} anchors, and {donor!r} shares {anchors} tokens "
            f"with the base that are fit to be anchors; {instead}choose a donor with a closer "
            "vocabulary, or a method that needs no anchors, such as pieces"
        )
