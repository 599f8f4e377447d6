"""What every method on the donor's geometry needs: anchors, targets, and rows for the tokens left.

A missing token is described by its donor's row next to the donor's rows of the anchors, and the
description is replayed on the base's rows of the same anchors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tokswap.blocks import device_kind, digest
from tokswap.errors import MethodError
from tokswap.methods.anchors import check_anchor_count, fit_anchors
from tokswap.methods.base import Problem, Side, WithAverages
from tokswap.methods.cost import ROWS
from tokswap.methods.pieces import Pieces
from tokswap.progress import bar
from tokswap.vocabulary.align import Ids

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.solvers.linear_map import Moments
    from tokswap.solvers.sparse import SparseRows

Center = Annotated[bool, Field(description="go by what differs from the anchors' mean")]
"""The setting ``center``."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A problem as it looks in the donor's space.

    Tokens for which the donor has no row, or a zero one, are not solved for: they are filled by
    their pieces.

    Attributes:
        problem: The rows to fill.
        method: What messages call the method.
        table: (rows, E) the donor's table, in its stored type.
        anchors: (N,) donor ids of the anchors.
        center: Whether rows are compared by what differs from the anchors' mean.
    """

    problem: Problem
    method: str
    table: "Tensor"
    anchors: Ids
    center: bool

    @property
    def width(self) -> int:
        """E, the donor's width."""
        return self.table.shape[1]

    @property
    def device(self) -> str:
        """Where solvers compute that need float64, which Apple's GPUs lack."""
        device = self.problem.device
        return "cpu" if device.startswith("mps") else device

    @cached_property
    def base_ids(self) -> "Tensor":
        """(N,) int64 base ids of the anchors."""
        import torch

        return torch.from_numpy(self.problem.alignment.source[self.anchors])

    @cached_property
    def places(self) -> "Tensor":
        """(P,) int64 places in the problem's ids of the tokens to solve for, ascending.

        Raises:
            MethodError: If a token's row in the donor is not finite.
        """
        import torch

        ids = self.problem.ids
        with_row = [place for place, number in enumerate(ids) if number < len(self.table)]
        places = torch.tensor(with_row, dtype=torch.int64)
        numbers = torch.tensor([ids[place] for place in with_row], dtype=torch.int64)
        solvable = [torch.zeros(0, dtype=torch.bool)]
        for start in range(0, len(numbers), ROWS):
            rows = self._rows(numbers[start : start + ROWS], "donor", self.table)
            solvable.append(rows.any(dim=1))
        return places[torch.cat(solvable)]

    @cached_property
    def middle(self) -> "Tensor":
        """(E,) the mean of the anchors' rows in the donor, or zeros where it is not taken off."""
        import torch

        if not self.center:
            return torch.zeros(self.width)
        return self._rows(torch.from_numpy(self.anchors), "donor", self.table).mean(dim=0)

    def atoms(self) -> "Tensor":
        """Return the anchors' rows in the donor less the middle, (N, E) float32.

        Raises:
            MethodError: If they are not finite.
        """
        import torch

        rows = self._rows(torch.from_numpy(self.anchors), "donor", self.table)
        return rows.sub_(self.middle)

    def targets(self, start: int = 0, stop: int | None = None) -> "Tensor":
        """Return the donor's rows at some of the places less the middle, (stop - start, E) float32.

        Raises:
            MethodError: If they are not finite.
        """
        import torch

        chosen = [self.problem.ids[place] for place in self.places[start:stop].tolist()]
        ids = torch.tensor(chosen, dtype=torch.int64)
        return self._rows(ids, "donor", self.table).sub_(self.middle)

    def solve(
        self,
        solver: "Callable[[Tensor], tuple[Tensor, ...]]",
        *,
        kept_by: Mapping[str, Any] | None = None,
    ) -> "tuple[Tensor, ...]":
        """Solve for the targets block by block.

        Args:
            solver: From targets (B, E) on the device to tensors of B rows each.
            kept_by: What decides the answer beside the donor's rows. With it, finished blocks are
                kept and shared among processes, as long work should be.

        Returns:
            Those of all P targets, on the CPU.
        """
        import torch

        device = self.problem.device if kept_by is not None else self.device

        def some(start: int, stop: int) -> "tuple[Tensor, ...]":
            return tuple(part.cpu() for part in solver(self.targets(start, stop).to(device)))

        label = f"{self.method}, {self.problem.role} {self.problem.purpose}"
        count = len(self.places)
        if kept_by is not None:
            ids = torch.tensor(self.problem.ids, dtype=torch.int64)[self.places]
            anchors = torch.from_numpy(self.anchors)
            settings = {**kept_by, "method": self.method, "device": device_kind(device)}
            key = digest(self.table, anchors, ids, settings)
            return self.problem.blocks.run(label, key, count, some)
        found = []
        with bar(label, count) as advance:
            for start in range(0, max(count, 1), ROWS):  # once at least, for the shapes
                found.append(some(start, start + ROWS))
                advance(len(found[-1][0]))
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def recombined(
        self, indices: "Tensor", weights: "Tensor", *, complete: bool = False
    ) -> WithAverages:
        """Replay combinations of anchors in the base.

        Args:
            indices: (P, k) numbers of anchors, 0 to N - 1, with -1 for unused slots.
            weights: (P, k) their weights.
            complete: Whether the weights add up to 1 but for rounding. Of centred rows that do not,
                what they lack to 1 is the weight of the anchors' mean.
        """
        import torch

        from tokswap.solvers.sparse import SparseRows

        problem, indices, weights = self.problem, indices.cpu(), weights.cpu()
        # The columns: the base's rows, their mean, and the anchors' mean, whose weight is what the
        # others lack to 1.
        columns, average = problem.columns + 1, problem.columns
        solved = SparseRows.from_padded(indices, weights, len(self.anchors)).map_columns(
            self.base_ids, columns
        )
        if self.center and not complete:
            rest = 1.0 - weights.double().sum(dim=1, keepdim=True)
            shift = SparseRows.from_padded(torch.full(rest.shape, average), rest, columns)
            solved = solved.combine(shift, 1.0, 1.0)
        found = solved.scatter(self.places, len(problem.ids))
        left, pieces = self._left()
        if len(left):
            pieces = pieces.map_columns(torch.arange(problem.columns), columns)
            found = found.combine(pieces.scatter(left, len(problem.ids)), 1.0, 1.0)
        mean = SparseRows.mean_of(self.base_ids.tolist(), problem.alignment.base_rows)
        return WithAverages(found, mean)

    def replaced(self, rows: "Tensor") -> "Tensor":
        """Put rows (P, D) to their places among those of all the problem's tokens, (M, D) float32.

        The tokens that are not solved for get the rows of their pieces.
        """
        import torch

        from tokswap.solvers.sparse import SparseRows

        made = torch.empty(len(self.problem.ids), rows.shape[1])
        made[self.places] = rows.float()
        left, pieces = self._left()
        if len(left):
            alignment, table = self.problem.alignment, self.problem.base_table()
            used = SparseRows.mean_of(alignment.used_base_ids.tolist(), alignment.base_rows)
            mean = used.apply(table)
            made[left] = pieces.apply(table, below=mean).float()
        return made

    def base_table(self) -> "Tensor":
        """Return the base's table, (S, D) in its stored type, with sound anchors in both tables.

        Raises:
            MethodError: If the anchors' rows are not finite in either.
        """
        import torch

        table = self.problem.base_table()
        for start in range(0, len(self.anchors), ROWS):
            some = slice(start, start + ROWS)
            self._rows(torch.from_numpy(self.anchors[some]), "donor", self.table)
            self._rows(self.base_ids[some], "base", table)
        return table

    def moments(self, base: "Tensor", *, center: bool) -> "Moments":
        """Sum up the anchors' rows in both tables, for a linear map to be fitted to."""
        import torch

        from tokswap.solvers.linear_map import moments

        anchors = torch.from_numpy(self.anchors)
        return moments(self.table, base, anchors, self.base_ids, center=center, device=self.device)

    def base_rows(self) -> "Tensor":
        """Return the anchors' rows in the base, less their mean where it is taken off.

        Returns:
            (N, D) float32.

        Raises:
            MethodError: If they are not finite.
        """
        rows = self._rows(self.base_ids, "base", self.problem.base_table())
        return rows - rows.mean(dim=0) if self.center else rows

    def check_anchors(self, needed: int, said: str, instead: str = "") -> None:
        """Check that there are as many anchors as the method needs.

        Args:
            needed: How many.
            said: What needs them, as ``k=64``.
            instead: What else to do than to choose another donor, as ``lower method.k or ``.

        Raises:
            MethodError: If there are fewer.
        """
        donor = self.problem.alignment.donor.name
        check_anchor_count(self.method, said, needed, len(self.anchors), donor, instead)

    def _left(self) -> "tuple[Tensor, SparseRows]":
        """Fill the tokens that are not solved for: their places, and their weights by pieces."""
        import torch

        count = len(self.problem.ids)
        unsolved = torch.ones(count, dtype=torch.bool)
        unsolved[self.places] = False
        left = unsolved.nonzero()[:, 0]
        ids = [self.problem.ids[place] for place in left.tolist()]
        return left, Pieces().fill(replace(self.problem, ids=ids))

    def _rows(self, ids: "Tensor", side: Side, table: "Tensor") -> "Tensor":
        """Return some rows of a table, (…, width) float32.

        Raises:
            MethodError: If they are not finite.
        """
        import torch

        rows = table.index_select(0, ids).float()
        if len(rows) and not bool(torch.stack(rows.aminmax()).isfinite().all()):
            name = getattr(self.problem.alignment, side).name
            raise MethodError(
                f"{self.method} cannot work with the {self.problem.role} rows of the {side} "
                f"{name!r}, which hold NaN or infinite values; fetch them again, or choose a "
                "method that needs no donor, such as pieces"
            )
        return rows


def compare(problem: Problem, method: str, *, center: bool, outliers: float | None) -> Geometry:
    """Look at a problem from the donor's space.

    Args:
        problem: The rows to fill.
        method: What messages call the method.
        center: Whether rows are compared by what differs from the anchors' mean.
        outliers: See :func:`~tokswap.methods.anchors.fit_anchors`.

    Raises:
        MethodError: If the donor is a bare tokenizer.
    """
    if problem.donor_table is None:
        raise MethodError(
            f"{method} needs the donor's weights and {problem.alignment.donor.name!r} is a bare "
            "tokenizer; give a model, or choose a method that needs none, such as pieces"
        )
    table = problem.donor_table()
    return Geometry(problem, method, table, fit_anchors(problem, table, outliers), center)
