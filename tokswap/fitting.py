"""A saved plan for another base: whether the vocabulary is the same, and the plan cut to its rows.

What counts is the rows that the plan uses. A base may have tokens that the plan's base has not, or
lack some, wherever the plan takes nothing from their rows; no token may be another.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tokswap.errors import CheckpointError
from tokswap.methods import ROLES
from tokswap.plan import Plan, RolePlan
from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.identity import Difference, difference, token_hashes
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray


def identities(base: Vocabulary, donor: Vocabulary) -> dict[str, Tensor]:
    """Give the numbers by which a plan knows the tokens of both vocabularies."""
    sides = {"base": base, "donor": donor}
    return {side: torch.from_numpy(token_hashes(which)) for side, which in sides.items()}


def check_donor(plan: Plan, donor: Vocabulary) -> None:
    """Refuse a tokenizer that is not the one that a plan was made for.

    Raises:
        CheckpointError: If one of its tokens is another; the message names the first.
    """
    found = _difference(plan, "donor", donor)
    wrong = np.concatenate([found.changed, found.added, found.removed])
    if len(wrong):
        raise CheckpointError(
            f"the tokenizer of {donor.name!r} is not the plan's: "
            + _differing(plan, "donor", donor, wrong)
            + "; name the donor that the plan was made for"
        )


def check_base(plan: Plan, base: Vocabulary, *, base_rows: int | None = None) -> list[str]:
    """Refuse a base with another vocabulary than the one that a plan was made for.

    Args:
        plan: The saved plan.
        base: The base's vocabulary.
        base_rows: S, rows of the base's tables; without it they are not looked at.

    Returns:
        What differs and does no harm, a line each.

    Raises:
        CheckpointError: If a token is another, or one that the plan uses is missing or has no row;
            the message names the first.
    """
    if fault := base_fault(plan, base):
        raise CheckpointError(
            f"the plan is for another vocabulary than that of {base.name!r}: {fault}; make a plan "
            "for this base with `tokswap transplant`"
        )
    found, used = _difference(plan, "base", base), used_rows(plan)
    if base_rows is not None and len(used) and used[-1] >= base_rows:
        raise CheckpointError(
            f"the plan uses rows up to id {used[-1]} of a base with {plan.base_rows:,} rows, and "
            f"{base.name!r} has {base_rows:,}; make a plan for this base with `tokswap transplant`"
        )
    notes = []
    if len(found.added):
        notes.append(
            f"{base.name} has {_tokens(found.added)} more than the plan's base (the first: id "
            f"{found.added[0]}, {base.show(int(found.added[0]))}); the plan uses none of their rows"
        )
    if len(found.removed):
        notes.append(
            f"{base.name} lacks {_tokens(found.removed)} of the plan's base (the first: id "
            f"{found.removed[0]}); the plan uses none of their rows"
        )
    if len(found.flagged):
        notes.append(
            f"{_tokens(found.flagged)} of {base.name} (the first: id {found.flagged[0]}, "
            f"{base.show(int(found.flagged[0]))}) are special on one side only; their rows are "
            "used as the plan says"
        )
    return notes


def base_fault(plan: Plan, base: Vocabulary) -> str | None:
    """Tell which token of a base is another than the plan's, or missing though the plan uses it.

    Raises:
        CheckpointError: If the plan does not say which vocabulary it is for.
    """
    found = _difference(plan, "base", base)
    wrong = np.concatenate([found.changed, np.intersect1d(found.removed, used_rows(plan))])
    return _differing(plan, "base", base, wrong) if len(wrong) else None


def fit(plan: Plan, base: Vocabulary, base_rows: int) -> Plan:
    """Cut a plan that :func:`check_base` has let pass to the rows of another base.

    Rows beyond the smaller of both are padding, which the plan uses for ids without a token alone.
    Such an id takes the mean instead where its row is not there, or has got a token meanwhile: an
    id that means nothing must not be predicted like that token.

    Args:
        plan: The saved plan.
        base: The base's vocabulary.
        base_rows: S, rows of the base's tables.

    Returns:
        The plan itself, where nothing is to be changed.
    """
    added = _difference(plan, "base", base).added
    columns = torch.arange(plan.base_rows)
    gone = (columns >= base_rows) | torch.from_numpy(np.isin(columns.numpy(), added))
    unused = plan.kind == Kind.UNUSED
    fitted = {id(part): _fit(part, gone, unused, base_rows) for part in plan.roles.values()}
    if all(fitted[id(part)] is part for part in plan.roles.values()):
        return plan
    return replace(plan, roles={role: fitted[id(part)] for role, part in plan.roles.items()})


def as_planned(alignment: Alignment, plan: Plan) -> Alignment:
    """Give an alignment the plan's word on which rows are copied."""
    kind = plan.kind.numpy()
    copies = np.isin(kind, (Kind.SHARED, Kind.SPECIAL, Kind.UNUSED))
    read, written = (np.where(copies, plan.copied(role).numpy(), -1) for role in ROLES)
    apart = np.flatnonzero((read != written) & (written >= 0))
    input_source = {int(number): int(read[number]) for number in apart}
    return replace(alignment, kind=kind.copy(), source=written, input_source=input_source)


def used_rows(plan: Plan) -> "NDArray[np.int64]":
    """Return the base ids, ascending, whose rows a plan uses for ids that have a token."""
    used = torch.zeros(plan.base_rows, dtype=torch.bool)
    for part in plan.roles.values():
        used[part.averages.indices] = True
        columns = part.weights.indices
        of_tokens = (plan.kind != Kind.UNUSED).repeat_interleave(part.weights.indptr.diff())
        used[columns[of_tokens & (columns < plan.base_rows)]] = True
    found: NDArray[np.int64] = np.flatnonzero(used.numpy())
    return found


def _fit(part: RolePlan, gone: Tensor, unused: Tensor, base_rows: int) -> RolePlan:
    old_rows, averages = part.averages.columns, len(part.averages)
    weights = part.weights
    columns = weights.indices
    inside = columns < old_rows
    lost = torch.zeros(len(columns), dtype=torch.bool)
    lost[inside] = gone[columns[inside]]
    lost &= unused.repeat_interleave(weights.indptr.diff())
    if old_rows == base_rows and not lost.any():
        return part
    # An id without a token has one entry, so nothing has to be put in order.
    weights = replace(weights, indices=columns.masked_fill(lost, old_rows))
    kept = torch.arange(old_rows).clamp(max=base_rows - 1)
    behind = torch.arange(base_rows, base_rows + averages)
    return replace(
        part,
        weights=weights.map_columns(torch.cat([kept, behind]), base_rows + averages),
        averages=part.averages.map_columns(kept, base_rows),
    )


def _difference(plan: Plan, side: str, vocabulary: Vocabulary) -> Difference:
    if side not in plan.tokens:
        raise CheckpointError(
            f"the plan does not say which {side} vocabulary it is for; make it again with "
            "`tokswap transplant`"
        )
    return difference(token_hashes(vocabulary), plan.tokens[side].numpy())


def _differing(plan: Plan, side: str, vocabulary: Vocabulary, wrong: "NDArray[np.int64]") -> str:
    """Name the first of the ids that differ."""
    first, there = int(wrong.min()), plan.tokens[side]
    here = bool(first < len(vocabulary) and vocabulary.spelling[first] is not None)
    known = bool(first < len(there) and there[first])
    words = {(True, True): "another token", (True, False): "no token", (False, True): "a token"}
    return (
        f"id {first} is {vocabulary.show(first) if here else 'no token'} here and "
        f"{words[here, known]} in the plan's {side}; {len(wrong):,} of "
        f"{max(len(vocabulary), len(there)):,} ids differ"
    )


def _tokens(ids: "NDArray[np.int64]") -> str:
    return "1 token" if len(ids) == 1 else f"{len(ids):,} tokens"
