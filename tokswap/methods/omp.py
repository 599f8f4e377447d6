"""A missing row is a sparse combination of anchors, found in the donor and replayed in the base."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from tokswap.blocks import device_kind, digest
from tokswap.errors import MethodError
from tokswap.memory import show_size
from tokswap.methods.base import Method, Problem, WithAverages
from tokswap.methods.pieces import Pieces
from tokswap.vocabulary.align import Ids

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
    center: bool = Field(default=True, description="combine what differs from the anchors' mean")
    outliers: float | None = Field(
        default=4.0,
        gt=0.0,
        strict=False,
        description="leave out anchors whose rows look untrained in either model: zeros, repeated, "
        "all to one side, or of a log length this many robust deviations off the median",
    )

    def fill(self, problem: Problem) -> "WithAverages":
        """See :meth:`Method.fill`."""
        import torch

        from tokswap.solvers.omp import orthogonal_matching_pursuit
        from tokswap.solvers.sparse import SparseRows

        table = self._donor_table(problem)
        anchors = self._anchors(problem, table)
        self._check(problem, len(anchors), table.shape[1])
        with_row = [place for place, number in enumerate(problem.ids) if number < len(table)]
        targets = _rows(problem, table, np.array([problem.ids[place] for place in with_row]))
        solvable = targets.any(dim=1)
        targets = targets[solvable]
        places = torch.tensor(with_row, dtype=torch.int64)[solvable]
        atoms = _rows(problem, table, anchors)
        center = atoms.mean(dim=0) if self.center else torch.zeros(table.shape[1])
        targets, atoms = targets - center, atoms - center
        batch = self._batch(problem, *atoms.shape)
        key = digest(targets, atoms, self.k, self.normalize, self.rtol, device_kind(problem.device))
        on_device: list[Tensor] = []

        def solve(start: int, stop: int) -> "tuple[Tensor, ...]":
            if not on_device:
                on_device.append(atoms.to(problem.device))
            found = orthogonal_matching_pursuit(
                targets[start:stop].to(problem.device),
                on_device[0],
                self.k,
                normalize=self.normalize,
                rtol=self.rtol,
                block=batch,
            )
            return tuple(part.cpu() for part in found)

        indices, weights = problem.blocks.run(f"omp, {problem.role} rows", key, len(places), solve)
        # The columns: the base's rows, their mean, and the anchors' mean, whose weight is what the
        # others lack to 1.
        base_ids = torch.from_numpy(problem.alignment.source[anchors])
        columns, average = problem.columns + 1, problem.columns
        solved = SparseRows.from_padded(indices, weights, len(anchors)).map_columns(
            base_ids, columns
        )
        if self.center:
            rest = 1.0 - weights.double().sum(dim=1, keepdim=True)
            shift = SparseRows.from_padded(torch.full((len(places), 1), average), rest, columns)
            solved = solved.combine(shift, 1.0, 1.0)
        found = solved.scatter(places, len(problem.ids))

        done = set(places.tolist())
        left = [place for place in range(len(problem.ids)) if place not in done]
        if left:
            pieces = Pieces().fill(replace(problem, ids=[problem.ids[place] for place in left]))
            pieces = pieces.map_columns(torch.arange(problem.columns), columns)
            left_places = torch.tensor(left, dtype=torch.int64)
            found = found.combine(pieces.scatter(left_places, len(problem.ids)), 1.0, 1.0)
        share = [[1.0 / max(len(anchors), 1)] * len(anchors)]
        averages = SparseRows.from_lists([base_ids.tolist()], share, problem.alignment.base_rows)
        return WithAverages(found, averages)

    def _anchors(self, problem: Problem, table: "Tensor") -> Ids:
        """The anchors whose rows are fit to compare the models by, in both of them."""
        anchors = problem.alignment.anchors
        anchors = anchors[anchors < len(table)]
        if self.outliers is None or not len(anchors):
            return anchors
        donor = problem.find_untrained("donor", table, self.outliers).numpy()
        base = problem.find_untrained("base", problem.base_table(), self.outliers).numpy()
        fit: Ids = anchors[~donor[anchors] & ~base[problem.alignment.source[anchors]]]
        return fit

    def _donor_table(self, problem: Problem) -> "Tensor":
        if problem.donor_table is None:
            raise MethodError(
                f"omp needs the donor's weights and {problem.alignment.donor.name!r} is a bare "
                "tokenizer; give a model, or choose a method that needs none, such as pieces"
            )
        return problem.donor_table()

    def _batch(self, problem: Problem, anchors: int, width: int) -> int:
        """How many targets fit the memory at once, 16 at least.

        Raises:
            MethodError: If not even those fit.
        """
        memory = problem.memory
        steps = min(self.k, anchors, width)
        tables, row = 8 * anchors * width, 4 * (anchors + steps * width + width)
        least = tables + 16 * row
        if memory < least:
            raise MethodError(
                f"omp with k={self.k} on {anchors} anchors of width {width} needs "
                f"{show_size(least)} at least, and may take {show_size(memory)}; give "
                f"--memory {show_size(least)} or more"
            )
        room = min(memory - tables, 256 << 20)
        return max(16, room // row // 16 * 16)

    def _check(self, problem: Problem, anchors: int, width: int) -> None:
        donor = problem.alignment.donor.name
        if self.k > anchors:
            raise MethodError(
                f"omp with k={self.k} needs as many anchors, and {donor!r} shares {anchors} tokens "
                "with the base that are fit to be anchors; lower method.k or choose a donor with a "
                "closer vocabulary"
            )
        if self.k > width:
            raise MethodError(
                f"omp with k={self.k} has more coefficients than {donor!r} has dimensions "
                f"({width}), so every row could be matched by chance; lower method.k"
            )


def _rows(problem: Problem, table: "Tensor", ids: Ids, side: str = "donor") -> "Tensor":
    import torch

    rows = table.index_select(0, torch.from_numpy(ids.astype(np.int64))).float()
    if not bool(torch.isfinite(rows).all()):
        name = getattr(problem.alignment, side).name
        raise MethodError(
            f"omp cannot work with the {problem.role} rows of the {side} {name!r}, which hold NaN "
            "or infinite values; fetch them again, or choose a method that needs no donor, such as "
            "pieces"
        )
    return rows
