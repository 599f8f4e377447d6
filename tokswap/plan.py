"""The plan: every new row as a weighted sum of a few base rows, for each role.

    new_rows (T, D)  =  W (T, S + A, sparse)  @  [ base_rows (S, D) ; averages (A, D) ]

The averages are themselves sparse combinations of base rows (the mean of the used ones), so that a
row which is the mean costs one entry. Rows that are no combination of base rows (samples,
predictions) are held as they are. A plan knows nothing of the model it is applied to but S: the
same plan serves a fine-tune, a larger sibling or a quantised copy with the same vocabulary.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokswap.errors import CheckpointError
from tokswap.methods import ROLES, Role
from tokswap.solvers.product import ROWS_AT_ONCE
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Kind

CONTIGUOUS = torch.contiguous_format
FORMAT = 2
"""Version of the file's layout."""


@dataclass(frozen=True, eq=False)
class RolePlan:
    """The new rows of one role.

    Attributes:
        weights: T rows over S + A columns.
        averages: A rows over S columns.
        dense_ids: (R,) ids of the rows that are held as they are, ascending.
        dense_rows: (R, D) float32, those rows.
        dense_bias: (R,) float32, their entries of a bias; without it, they get the mean.
    """

    weights: SparseRows
    averages: SparseRows
    dense_ids: Tensor
    dense_rows: Tensor
    dense_bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weights.columns != self.averages.columns + len(self.averages):
            raise ValueError(
                f"{self.weights.columns} columns do not stand for {self.averages.columns} rows and "
                f"{len(self.averages)} averages"
            )
        ids, rows = self.dense_ids, len(self.weights)
        inside = bool(((ids >= 0) & (ids < rows)).all())
        if len(ids) != len(self.dense_rows) or not inside:
            raise ValueError(
                f"{len(self.dense_rows)} dense rows do not go to {len(ids)} of {rows} rows"
            )
        if self.dense_bias is not None and self.dense_bias.shape != ids.shape:
            raise ValueError(f"{len(self.dense_bias)} biases do not go to {len(ids)} dense rows")

    def apply(self, table: Tensor) -> Tensor:
        """Compute the new table.

        Args:
            table: (S, D) base rows, or (S,) for a bias.

        Returns:
            (T, D), or (T,), in the table's type. Rows that copy one base row do so bit for bit.

        Raises:
            ValueError: If the table does not have S rows, or the plan holds rows of another width.
        """
        made = table.new_empty(len(self.weights), *table.shape[1:])
        start = 0
        for block in self.blocks(table):
            made[start : start + len(block)] = block
            start += len(block)
        return made

    def take(self, ids: Tensor) -> "RolePlan":
        """Return the plan of some of the rows, (n,) distinct ids, in that order.

        Raises:
            ValueError: If there are no such rows.
        """
        weights = self.weights.take(ids)
        place = torch.full((len(self.weights),), -1, dtype=torch.int64)
        place[ids] = torch.arange(len(ids))
        places = place[self.dense_ids]
        held = (places >= 0).nonzero()[:, 0]
        held = held[places[held].argsort()]
        return replace(
            self,
            weights=weights,
            dense_ids=places[held],
            dense_rows=self.dense_rows[held],
            dense_bias=None if self.dense_bias is None else self.dense_bias[held],
        )

    def blocks(self, table: Tensor, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[Tensor]:
        """Compute the new table block by block, as :meth:`apply` does, without holding it.

        Raises:
            ValueError: As :meth:`apply`.
        """
        if len(table) != self.averages.columns:
            raise ValueError(
                f"the plan is for tables of {self.averages.columns} rows, this one has "
                f"{len(table)}; apply it to a model with the same base vocabulary"
            )
        bias = table.dim() == 1
        if not bias and len(self.dense_ids) and self.dense_rows.shape[1] != table.shape[1]:
            raise ValueError(
                f"the plan holds rows of width {self.dense_rows.shape[1]}, the table has width "
                f"{table.shape[1]}; only sparse plans apply to models of another width"
            )
        wide = table[:, None] if bias else table
        # A few rows of a plan seldom use the averages, which are sums of the whole table.
        uses = bool((self.weights.indices >= len(table)).any()) or (bias and len(self.dense_ids))
        none = wide.new_zeros(len(self.averages), wide.shape[1])
        averages = self.averages.apply(wide) if uses else none
        for start in range(0, len(self.weights), rows_at_once):
            stop = min(start + rows_at_once, len(self.weights))
            block = self.weights.between(start, stop).apply(wide, below=averages)
            held = (self.dense_ids >= start) & (self.dense_ids < stop)
            places = self.dense_ids[held] - start
            if len(places) and not bias:
                block[places] = self.dense_rows[held].to(block.dtype)
            elif len(places) and self.dense_bias is not None:
                block[places, 0] = self.dense_bias[held].to(block.dtype)
            elif len(places):  # a row that is held as it is says nothing of a bias; the mean does
                block[places] = averages[0]
            yield block[:, 0] if bias else block


@dataclass(frozen=True, eq=False)
class Plan:
    """Where every row of a new vocabulary comes from.

    Attributes:
        roles: The plan of each role; ``output`` is absent where one table serves both.
        kind: (T,) uint8, what each row is (:class:`~tokswap.vocabulary.align.Kind`).
        about: Names and hashes of both vocabularies, and the recipe.
        tokens: For ``base`` and ``donor`` an int32 for each id of the vocabulary, by which its
            tokens are known (:func:`~tokswap.vocabulary.identity.token_hashes`).
    """

    roles: Mapping[Role, RolePlan]
    kind: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {role: len(plan.weights) for role, plan in self.roles.items()}
        if "input" not in sizes or set(sizes.values()) != {len(self.kind)}:
            raise ValueError(f"roles of {sizes} rows do not make a plan of {len(self.kind)} rows")

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

    def blocks(self, table: Tensor, role: Role = "input") -> Iterator[Tensor]:
        """Compute the new table block by block; see :meth:`RolePlan.blocks`."""
        return self.roles.get(role, self.roles["input"]).blocks(table)

    def copied(self, role: Role = "input") -> Tensor:
        """Return (T,) int64: the base id whose row each new row copies bit for bit, or -1."""
        plan = self.roles.get(role, self.roles["input"])
        weights = plan.weights
        starts, counts = weights.indptr[:-1], weights.indptr.diff()
        source = torch.full((self.rows,), -1, dtype=torch.int64)
        single = (counts == 1).nonzero()[:, 0]
        entry = starts[single]
        whole = (weights.weights[entry] == 1) & (weights.indices[entry] < self.base_rows)
        source[single[whole]] = weights.indices[entry[whole]]
        source[plan.dense_ids] = -1
        return source

    def leading(self, role: Role = "input") -> Tensor:
        """Return (T,) int64: the base id that weighs most in each row; 0 where there is none.

        It is what a table of whole numbers goes by, whose entries cannot be combined.
        """
        weights = self.roles.get(role, self.roles["input"]).weights
        rows = torch.repeat_interleave(torch.arange(self.rows), weights.indptr.diff())
        order = weights.weights.abs().argsort(stable=True)  # the heaviest is written last
        order = order[weights.indices[order] < self.base_rows]
        order = order[rows[order].argsort(stable=True)]
        last = torch.ones(len(order), dtype=torch.bool)
        last[:-1] = rows[order[:-1]] != rows[order[1:]]
        found = torch.zeros(self.rows, dtype=torch.int64)
        found[rows[order[last]]] = weights.indices[order[last]]
        return found

    def explain(self, number: int, role: Role = "input") -> tuple[str, list[tuple[int, float]]]:
        """Tell where a row comes from.

        Args:
            number: Id in the new vocabulary.
            role: ``input`` or ``output``.

        Returns:
            What the row is (``shared``, ``missing`` …; ``missing, held as it is`` for a dense
            row), and the base ids it is a combination of with their weights, the largest first.
            Id S stands for the mean of the base's used rows, ids behind it for the method's own
            averages.

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

    def save(self, path: str | Path) -> None:
        """Write the plan as a safetensors file."""
        from safetensors.torch import save

        # A table that serves both roles is written once; `same` says so.
        same = self.roles.get("output") is self.roles["input"]
        tensors = {"kind": self.kind}
        for role, plan in self.roles.items():
            if same and role == "output":
                continue
            for part, sparse in (("weights", plan.weights), ("averages", plan.averages)):
                tensors[f"{role}.{part}.indptr"] = sparse.indptr
                tensors[f"{role}.{part}.indices"] = sparse.indices.to(torch.int32)
                tensors[f"{role}.{part}.values"] = sparse.weights
            tensors[f"{role}.dense_ids"] = plan.dense_ids
            tensors[f"{role}.dense_rows"] = plan.dense_rows
            if plan.dense_bias is not None:
                tensors[f"{role}.dense_bias"] = plan.dense_bias
        tensors |= {f"tokens.{side}": numbers for side, numbers in self.tokens.items()}
        about = {"format": FORMAT, "base_rows": self.base_rows, "same": same, **self.about}
        metadata = {"tokswap_plan": json.dumps(about, ensure_ascii=False, sort_keys=True)}
        # Roles may share a part, such as the averages, which safetensors takes for a mistake.
        own = {name: tensor.clone(memory_format=CONTIGUOUS) for name, tensor in tensors.items()}
        Path(path).write_bytes(save(own, metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan.

        Args:
            path: A file written by :meth:`save`.

        Raises:
            CheckpointError: If the file is missing or no plan of this version.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = dict(json.loads((file.metadata() or {})["tokswap_plan"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (version := about.pop("format")) != FORMAT:
                raise CheckpointError(
                    f"{path} is a plan of format {version}, and this tokswap reads format "
                    f"{FORMAT}; make it again with `tokswap transplant --plan-only`"
                )
            rows = int(about.pop("base_rows"))
            roles = {role: _read_role(tensors, role, rows) for role in ROLES if _has(tensors, role)}
            if about.pop("same"):
                roles["output"] = roles["input"]
            tokens = {
                name.removeprefix("tokens."): tensor
                for name, tensor in tensors.items()
                if name.startswith("tokens.")
            }
            return cls(roles, tensors["kind"], about, tokens)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} is not a plan ({error}); give the {PLAN_FILE} of an output folder"
            ) from error


PLAN_FILE = "tokswap.plan"
"""Name of the plan in an output folder. It is a safetensors file under a name of its own, because
inference engines read every ``*.safetensors`` in a folder as weights."""


def plan_file(path: str | Path) -> Path:
    """Return the plan's file, of a folder that holds one or of the file itself."""
    path = Path(path).expanduser()
    return path / PLAN_FILE if path.is_dir() else path


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
        dense_bias=tensors.get(f"{role}.dense_bias"),
    )
