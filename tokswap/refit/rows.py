"""Refitted rows in a plan: fitted ones are held as they are, blended ones stay combinations."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokswap.errors import RefitError
from tokswap.methods import Role
from tokswap.pair import Pair
from tokswap.plan import Plan, RolePlan
from tokswap.ranks import Ranks
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment


def check_tables(pair: Pair, roles: Mapping[Role, str]) -> None:
    """Check that a role whose rows are to be held has one table alone.

    Args:
        pair: The base and the donor.
        roles: By role, what is to be done to its rows.

    Raises:
        RefitError: If a further table would get rows that were fitted for the first.
    """
    for role, deed in roles.items():
        names = [
            tensor.name
            for tensor in pair.layout.tensors
            if (tensor.role == role or pair.layout.tied)
            and len(pair.base.info(tensor.name).shape) > 1
        ]
        if len(names) > 1:
            raise RefitError(
                f"{pair.base.name} has {len(names)} tables of {role} rows "
                f"({', '.join(names[:3])}), and a refit fits the rows of one; leave out to {deed}"
            )


def rows_of(plan: RolePlan, ids: Tensor, table: Tensor) -> Tensor:
    """Compute some rows of a role, (A, D), from the base's table in float32."""
    return plan.take(ids).apply(table)


def bias_of(pair: Pair, plan: Plan) -> Tensor | None:
    """Compute the head's new bias, (T,), where there is one."""
    for tensor in pair.layout.tensors:
        if tensor.role == "output" and len(pair.base.info(tensor.name).shape) == 1:
            return plan.apply(pair.base.load(tensor.name).float(), "output")
    return None


def with_rows(plan: RolePlan, ids: Tensor, rows: Tensor, bias: Tensor | None) -> RolePlan:
    """Hold some rows of a role as they are.

    Args:
        plan: The role's plan.
        ids: (A,) int64, ascending.
        rows: (A, D) the rows.
        bias: (T,) the new bias, whose entries these rows keep; None where there is none.
    """
    held = torch.zeros(len(plan.weights), dtype=torch.bool)
    held[plan.dense_ids] = held[ids] = True
    there = held.nonzero()[:, 0]
    place = torch.full((len(held),), -1)
    place[there] = torch.arange(len(there))
    dense = torch.empty(len(there), rows.shape[1])
    if len(plan.dense_ids):
        dense[place[plan.dense_ids]] = plan.dense_rows
    dense[place[ids]] = rows.float().cpu()
    said = plan.dense_bias if bias is None else bias.float().cpu()[there]
    weights = plan.weights.without(there)
    return replace(plan, weights=weights, dense_ids=there, dense_rows=dense, dense_bias=said)


def blended(plan: Plan, alignment: Alignment, shares: Mapping[int, float]) -> Plan:
    """Put a share of the row of its last piece into input rows that are combinations.

    Args:
        plan: The plan.
        alignment: The new vocabulary against the base's.
        shares: By id of a missing token; what has no pieces or is held as it is stays.
    """
    role = plan.roles["input"]
    held = set(role.dense_ids.tolist())
    pieces = alignment.pieces
    wanted = {
        number: share
        for number, share in shares.items()
        if share and number not in held and pieces.get(number)
    }
    factors = torch.zeros(plan.rows, dtype=torch.float64)
    source = torch.full((plan.rows,), -1, dtype=torch.int64)
    for number, share in wanted.items():
        factors[number], source[number] = share, pieces[number][-1]
    last = SparseRows.selection(source, role.weights.columns)
    weights = role.weights.scaled(1 - factors).combine(last.scaled(factors), 1.0, 1.0)
    roles = {"output": plan.roles.get("output", role), "input": replace(role, weights=weights)}
    return replace(plan, roles={r: roles[r] for r in plan.roles})


def of_first(ranks: Ranks, rows: Tensor, about: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Give all ranks what the first has found.

    Raises:
        RankError: If another rank fails.
    """
    from safetensors.torch import load, save

    if ranks.world == 1:
        return rows, about
    data = save({"rows": rows.cpu().contiguous()}) if ranks.first else b""
    said = ranks.share(json.dumps(about).encode() if ranks.first else b"")[0]
    return load(ranks.share(data)[0])["rows"].to(rows.device), dict(json.loads(said))
