"""Making a plan: shared rows are copied, missing ones filled by a method for each role."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokswap.errors import MethodError
from tokswap.methods import Method, Problem, Role
from tokswap.plan import Plan, RolePlan
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment, Kind


@dataclass(frozen=True, eq=False)
class Tables:
    """What a plan is made from, beside the vocabularies; loaded when a method asks.

    Attributes:
        base: Loads the base's table of a role, (S, D).
        donor: Loads the donor's table of a role, (rows, E); None for a bare tokenizer.
        tied: Whether one base table serves both roles.
        donor_tied: Whether one donor table serves both roles.
    """

    base: Callable[[Role], Tensor]
    donor: Callable[[Role], Tensor] | None
    tied: bool
    donor_tied: bool = False

    def problem(
        self, role: Role, alignment: Alignment, ids: list[int], *, seed: int, device: str
    ) -> Problem:
        """Ask for the rows of some missing tokens in one role."""
        donor = self.donor
        return Problem(
            role=role,
            alignment=alignment,
            ids=ids,
            base_table=lambda: self.base(role),
            donor_table=None if donor is None else lambda: donor(role),
            generator=torch.Generator().manual_seed(seed),
            device=device,
        )


def make_plan(
    alignment: Alignment,
    methods: Mapping[Role, Method],
    tables: Tables,
    *,
    seed: int = 0,
    device: str = "cpu",
    about: Mapping[str, Any] | None = None,
) -> Plan:
    """Make the plan: copy the shared rows, fill the missing ones by a method for each role.

    A tied base has one table, which is solved once, as input. So is an untied one whose rows come
    out the same for both roles (same settings, and nothing read from the donor's tables or the
    donor is tied).

    Args:
        alignment: The new vocabulary against the base's.
        methods: The method of each role.
        tables: The base's and the donor's tables.
        seed: Seed of the random generator; each role has its own, seeded alike.
        device: Where to compute.
        about: What to note in the plan.

    Raises:
        MethodError: If a method cannot work on this pair, or makes rows that are not finite.
    """
    roles: dict[Role, RolePlan] = {
        "input": _role_plan("input", alignment, methods, tables, seed, device)
    }
    if not tables.tied:
        alike = methods["input"] == methods["output"] and not len(roles["input"].dense_ids)
        same_donor = tables.donor_tied or not methods["output"].needs_donor
        roles["output"] = (
            roles["input"]
            if alike and same_donor
            else _role_plan("output", alignment, methods, tables, seed, device)
        )
    return Plan(roles, torch.from_numpy(alignment.kind.copy()), dict(about or {}))


def _role_plan(
    role: Role,
    alignment: Alignment,
    methods: Mapping[Role, Method],
    tables: Tables,
    seed: int,
    device: str,
) -> RolePlan:
    missing = [int(number) for number in alignment.missing]
    problem = tables.problem(role, alignment, missing, seed=seed, device=device)
    rows, columns = alignment.rows, problem.columns
    source = alignment.source.copy()
    no_source = (source < 0) & np.isin(alignment.kind, (Kind.UNMATCHED, Kind.UNUSED))
    source[no_source] = problem.mean_column
    weights = SparseRows.selection(torch.from_numpy(source), columns)

    overridden = list(alignment.overrides)
    lists = [list(alignment.overrides[number]) for number in overridden]
    shares = [[1.0 / max(len(ids), 1)] * len(ids) for ids in lists]
    said = SparseRows.from_lists(lists, shares, columns)
    weights = weights.combine(said.scatter(torch.tensor(overridden, dtype=torch.int64), rows), 1, 1)

    ids = torch.tensor(problem.ids, dtype=torch.int64)
    dense_ids, dense_rows = torch.empty(0, dtype=torch.int64), torch.empty(0, 0)
    if problem.ids:
        filled = methods[role].fill(problem)
        if isinstance(filled, SparseRows):
            weights = weights.combine(filled.scatter(ids, rows), 1, 1)
        elif not bool(torch.isfinite(filled).all()):
            raise MethodError(
                f"the {role} rows of {alignment.base.name!r} give rows that are not finite; its "
                "table holds infinities or is damaged"
            )
        else:
            dense_ids, dense_rows = ids, filled.float().cpu()
    used = [alignment.used_base_ids.tolist()]
    mean = SparseRows.from_lists(
        used, [[1.0 / max(len(used[0]), 1)] * len(used[0])], alignment.base_rows
    )
    return RolePlan(weights, mean, dense_ids, dense_rows)
