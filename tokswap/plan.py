"""The plan: every new row as a weighted sum of a few base rows, for each role.

    new_rows (T, D)  =  W (T, S + A, sparse)  @  [ base_rows (S, D) ; averages (A, D) ]

The averages are themselves sparse combinations of base rows (the mean of the used ones), so that a
row which is the mean costs one entry. Rows that are no combination of base rows (samples,
predictions) are held as they are. A plan knows nothing of the model it is applied to but S: the
same plan serves a fine-tune, a larger sibling or a quantised copy with the same vocabulary.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokswap.errors import CheckpointError, MethodError
from tokswap.methods import Method, Problem, Role
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment, Kind

ROLES: tuple[Role, Role] = ("input", "output")
FORMAT = 1
"""Version of the file's layout."""


@dataclass(frozen=True, eq=False)
class RolePlan:
    """The new rows of one role.

    Attributes:
        weights: T rows over S + A columns.
        averages: A rows over S columns.
        dense_ids: (R,) ids of the rows that are held as they are, ascending.
        dense_rows: (R, D) float32, those rows.
    """

    weights: SparseRows
    averages: SparseRows
    dense_ids: Tensor
    dense_rows: Tensor

    def apply(self, table: Tensor) -> Tensor:
        """Compute the new table.

        Args:
            table: (S, D) base rows, or (S,) for a bias.

        Returns:
            (T, D), or (T,), in the table's type. Rows that copy one base row do so bit for bit.

        Raises:
            ValueError: If the table does not have S rows, or the plan holds rows of another width.
        """
        if len(table) != self.averages.columns:
            raise ValueError(
                f"the plan is for tables of {self.averages.columns} rows, this one has "
                f"{len(table)}; apply it to a model with the same base vocabulary"
            )
        wide = table[:, None] if table.dim() == 1 else table
        averages = self.averages.apply(wide)
        rows = self.weights.apply(torch.cat([wide, averages]))
        if table.dim() == 1:
            # A row that is held as it is says nothing of a bias; the mean does.
            rows[self.dense_ids] = averages[0]
            return rows[:, 0]
        if len(self.dense_ids):
            if self.dense_rows.shape[1] != table.shape[1]:
                raise ValueError(
                    f"the plan holds rows of width {self.dense_rows.shape[1]}, the table has width "
                    f"{table.shape[1]}; only sparse plans apply to models of another width"
                )
            rows[self.dense_ids] = self.dense_rows.to(rows.dtype)
        return rows


@dataclass(frozen=True, eq=False)
class Plan:
    """Where every row of a new vocabulary comes from.

    Attributes:
        roles: The plan of each role; ``output`` is absent where one table serves both.
        kind: (T,) uint8, what each row is (:class:`~tokswap.vocabulary.align.Kind`).
        about: Names and hashes of both vocabularies, the method and its settings.
    """

    roles: Mapping[Role, RolePlan]
    kind: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """T, rows of the new vocabulary."""
        return len(self.kind)

    @property
    def base_rows(self) -> int:
        """S, rows of the base vocabulary."""
        return self.roles["input"].averages.columns

    def apply(self, table: Tensor, role: Role = "input") -> Tensor:
        """Compute the new table of a role from the base's; see :meth:`RolePlan.apply`."""
        return self.roles.get(role, self.roles["input"]).apply(table)

    def explain(self, number: int, role: Role = "input") -> tuple[str, list[tuple[int, float]]]:
        """Tell where a row comes from.

        Args:
            number: Id in the new vocabulary.
            role: ``input`` or ``output``.

        Returns:
            What the row is (``shared``, ``missing`` …; ``missing, held as it is`` for a dense
            row), and the base ids it is a combination of with their weights, the largest first.
            Id S stands for the mean of the base's used rows.

        Raises:
            ValueError: If there is no such id.
        """
        if not 0 <= number < self.rows:
            raise ValueError(f"id {number} is not one of the plan's {self.rows} rows")
        plan = self.roles.get(role, self.roles["input"])
        kind = Kind(int(self.kind[number])).name.lower()
        if bool((plan.dense_ids == number).any()):
            return f"{kind}, held as it is", []
        return kind, sorted(plan.weights.row(number), key=lambda entry: -abs(entry[1]))

    def save(self, path: Path) -> None:
        """Write the plan as a safetensors file."""
        from safetensors.torch import save_file

        tensors = {"kind": self.kind}
        for role, plan in self.roles.items():
            for part, sparse in (("weights", plan.weights), ("averages", plan.averages)):
                tensors[f"{role}.{part}.indptr"] = sparse.indptr
                tensors[f"{role}.{part}.indices"] = sparse.indices.to(torch.int32)
                tensors[f"{role}.{part}.values"] = sparse.weights
            tensors[f"{role}.dense_ids"] = plan.dense_ids
            tensors[f"{role}.dense_rows"] = plan.dense_rows
        about = {"format": FORMAT, "base_rows": self.base_rows, **self.about}
        metadata = {"tokswap_plan": json.dumps(about, ensure_ascii=False, sort_keys=True)}
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata)

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan.

        Args:
            path: A file written by :meth:`save`.

        Raises:
            CheckpointError: If the file is missing or no plan of this version.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["tokswap_plan"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.pop("format") != FORMAT:
                raise CheckpointError(f"{path} is a plan of another version; make it again")
            rows = int(about.pop("base_rows"))
            roles = {role: _read_role(tensors, role, rows) for role in ROLES if _has(tensors, role)}
            return cls(roles, tensors["kind"], about)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a plan ({error}); give the {PLAN_FILE} of an output folder"
            ) from error


PLAN_FILE = "tokswap.plan"
"""Name of the plan in an output folder. It is a safetensors file under a name of its own, because
inference engines read every ``*.safetensors`` in a folder as weights."""


def _has(tensors: Mapping[str, Tensor], role: str) -> bool:
    return f"{role}.weights.indptr" in tensors


def _read_role(tensors: Mapping[str, Tensor], role: str, base_rows: int) -> RolePlan:
    def sparse(part: str, columns: int) -> SparseRows:
        stem = f"{role}.{part}"
        return SparseRows(
            indptr=tensors[f"{stem}.indptr"],
            indices=tensors[f"{stem}.indices"].to(torch.int64),
            weights=tensors[f"{stem}.values"],
            columns=columns,
        )

    averages = sparse("averages", base_rows)
    return RolePlan(
        weights=sparse("weights", base_rows + len(averages)),
        averages=averages,
        dense_ids=tensors[f"{role}.dense_ids"],
        dense_rows=tensors[f"{role}.dense_rows"],
    )


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
    roles: dict[Role, RolePlan] = {"input": _role_plan("input", alignment, methods, tables, seed, device)}
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
    donor = tables.donor
    problem = Problem(
        role=role,
        alignment=alignment,
        ids=[int(number) for number in alignment.missing],
        base_table=lambda: tables.base(role),
        donor_table=None if donor is None else lambda: donor(role),
        generator=torch.Generator().manual_seed(seed),
        device=device,
    )
    rows, columns = alignment.rows, problem.columns
    source = alignment.source.copy()
    no_source = (source < 0) & np.isin(alignment.kind, (Kind.UNMATCHED, Kind.UNUSED))
    source[no_source] = problem.mean_column
    weights = SparseRows.selection(torch.from_numpy(source), columns)

    overridden = list(alignment.overrides)
    lists = [list(alignment.overrides[number]) for number in overridden]
    shares = [[1.0 / len(ids)] * len(ids) for ids in lists]
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
    mean = SparseRows.from_lists(used, [[1.0 / max(len(used[0]), 1)] * len(used[0])], alignment.base_rows)
    return RolePlan(weights, mean, dense_ids, dense_rows)
