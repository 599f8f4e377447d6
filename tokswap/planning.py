"""Making a plan: shared rows are copied, missing ones filled by a method for each role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokswap.blocks import Blocks
from tokswap.errors import MethodError
from tokswap.methods import ROLES, Method, Problem, Role, WithAverages
from tokswap.methods.answer import Answer
from tokswap.methods.base import Searched
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
        has_bias: Whether the base's head has a bias.
        untrained: Which of their rows a method has found to be untrained, and by what.
    """

    base: Callable[[Role], Tensor]
    donor: Callable[[Role], Tensor] | None
    tied: bool
    donor_tied: bool = False
    has_bias: bool = False
    untrained: dict[Searched, Tensor] = field(default_factory=dict)

    def problem(
        self,
        role: Role,
        alignment: Alignment,
        ids: list[int],
        *,
        seed: int,
        device: str,
        also: Sequence[Role] = (),
        blocks: Blocks | None = None,
    ) -> Problem:
        """Ask for the rows of some missing tokens in one role, and in others if they are alike."""
        donor = self.donor
        return Problem(
            role=role,
            alignment=alignment,
            ids=ids,
            base_table=lambda: self.base(role),
            donor_table=None if donor is None else lambda: donor(role),
            generator=torch.Generator().manual_seed(seed),
            device=device,
            untrained=self.untrained,
            also={other: partial(self.base, other) for other in also},
            base_inputs=partial(self.base, "input"),
            base_outputs=partial(self.base, "output"),
            has_bias=self.has_bias,
            blocks=blocks or Blocks(),
            tied=self.tied,
        )


def make_plan(
    alignment: Alignment,
    methods: Mapping[Role, Method],
    tables: Tables,
    *,
    seed: int = 0,
    device: str = "cpu",
    about: Mapping[str, Any] | None = None,
    only: Sequence[int] | None = None,
    blocks: Blocks | None = None,
) -> Plan:
    """Make the plan: copy the shared rows, fill the missing ones by a method for each role.

    A method that fills the rows of shared tokens too is asked for them as well, and they are not
    copied in its role. A tied base has one table, which is solved once, as input. So is an untied
    one where nothing that the method goes by differs between the roles (:func:`alike`).

    Args:
        alignment: The new vocabulary against the base's.
        methods: The method of each role.
        tables: The base's and the donor's tables.
        seed: Seed of the random generator; each role has its own, seeded alike.
        device: Where to compute.
        about: What to note in the plan.
        only: Fill only these tokens; the rows of others that are missing are zeros.
        blocks: What solves; it remembers what both roles have in common.

    Raises:
        MethodError: If a method cannot work on this pair, or makes rows that are not finite.
    """
    blocks = blocks or Blocks()

    def asked(role: Role) -> list[int]:
        kinds = [Kind.MISSING, *([Kind.SHARED] if methods[role].fills_shared else [])]
        return [int(number) for number in (alignment.ids(*kinds) if only is None else only)]

    def fill(role: Role, *also: Role) -> Filled:
        ids = asked(role)
        problem = tables.problem(
            role, alignment, ids, seed=seed, device=device, also=also, blocks=blocks
        )
        return methods[role].fill(problem) if ids else None

    def plan_of(role: Role, filled: Filled) -> RolePlan:
        split = {} if tables.tied or role == "output" else alignment.input_source
        return role_plan(alignment, role, asked(role), filled, split, tied=tables.tied)

    if tables.tied:
        roles: dict[Role, RolePlan] = {"input": plan_of("input", fill("input"))}
    elif alike(methods, donor_tied=tables.donor_tied):
        filled = fill("input", "output")
        roles = {"input": plan_of("input", filled)}
        apart = bool(alignment.input_source) or len(alignment.doubles) > 0
        roles["output"] = plan_of("output", filled) if apart else roles["input"]
    elif _asks_alike(methods, donor_tied=tables.donor_tied):
        # What the answers have in common is one question, which the blocks solve once.
        roles = {"input": plan_of("input", fill("input", "output"))}
        roles["output"] = plan_of("output", fill("output", "input"))
    else:
        roles = {role: plan_of(role, fill(role)) for role in ROLES}
    return Plan(roles, torch.from_numpy(alignment.kind.copy()), dict(about or {}))


def alike(methods: Mapping[Role, Method], *, donor_tied: bool) -> bool:
    """Tell whether one answer serves both roles of an untied base.

    Args:
        methods: The method of each role.
        donor_tied: Whether one donor table serves both roles.
    """
    return _asks_alike(methods, donor_tied=donor_tied) and not methods["input"].differs_by_role


def _asks_alike(methods: Mapping[Role, Method], *, donor_tied: bool) -> bool:
    """Tell whether both roles have one method that reads the same of the models in both."""
    method = methods["input"]
    reads_apart = method.needs_base or (method.needs_donor and not donor_tied)
    return method == methods["output"] and not reads_apart


Filled = SparseRows | WithAverages | Tensor | Answer | None
"""A method's answer; None where nothing was asked."""


def role_plan(
    alignment: Alignment,
    role: Role,
    asked: Sequence[int],
    filled: Filled,
    split: Mapping[int, int],
    *,
    tied: bool = False,
) -> RolePlan:
    """Put the rows of one role together.

    Args:
        alignment: The new vocabulary against the base's.
        role: The role.
        asked: Ids of the tokens whose rows were filled.
        filled: Their rows, as a method answers.
        split: By donor id, the base row that is copied instead of the alignment's.
        tied: Whether the rows serve both roles of a base that has one table.

    Raises:
        MethodError: If the rows are not finite.
    """
    rows = alignment.rows
    averages = SparseRows.mean_of(alignment.used_base_ids.tolist(), alignment.base_rows)
    answer = None if filled is None else Answer.of(filled, alignment.base_rows)
    if answer is not None:
        averages = SparseRows.concatenate([averages, answer.averages])
    columns = alignment.base_rows + len(averages)

    source = alignment.source.copy()
    source[list(split)] = list(split.values())
    if role == "output" or tied:
        source[alignment.doubles] = alignment.base_rows  # the mean, which takes hardly anything
    source[list(asked)] = -1
    no_source = (source < 0) & np.isin(alignment.kind, (Kind.UNMATCHED, Kind.UNUSED))
    source[no_source] = alignment.base_rows  # the mean
    weights = SparseRows.selection(torch.from_numpy(source), columns)
    lists = [list(ids) for ids in alignment.overrides.values()]
    means = SparseRows.from_lists(
        lists, [[1.0 / max(len(ids), 1)] * len(ids) for ids in lists], columns
    )
    overridden = torch.tensor(list(alignment.overrides), dtype=torch.int64)
    weights = weights.combine(means.scatter(overridden, rows), 1, 1)

    ids = torch.tensor(asked, dtype=torch.int64)
    if answer is None:
        return RolePlan(weights, averages, ids, torch.empty(0, 0))
    bias = answer.bias
    said = [answer.rows, *([] if bias is None else [bias])]
    if not all(bool(torch.isfinite(part).all()) for part in said):
        raise MethodError(
            f"the {role} rows of {alignment.base.name!r} give rows that are not finite; "
            "its table holds infinities or is damaged"
        )
    solved = answer.weights.map_columns(torch.arange(answer.weights.columns), columns)
    weights = weights.combine(solved.scatter(ids, rows), 1, 1)
    return RolePlan(weights, averages, ids[answer.places], answer.rows, bias)
