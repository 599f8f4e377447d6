"""Some anchors are taken for missing, and what a method makes of them is compared with them.

Tensors and tokens only; :mod:`tokswap.held_out` asks for it and sums it up.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from tokswap.blocks import Blocks
from tokswap.errors import MethodError
from tokswap.methods import Answer, Method, Problem, Role
from tokswap.methods.anchors import fit_anchors
from tokswap.planning import Tables
from tokswap.solvers.likeness import likeness
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment, Kind

SHARE = 10
"""One in so many anchors is held out at once at most, for the others have to do without them."""

METHOD, MEAN, OTHER = "method", "mean_row", "other_anchor"
"""What is compared: the method's rows, and two that take no method and so are worth nothing."""

_ENTRIES = 2048  # rows of a table that are held in float64 at once
_ROWS = 4096  # rows that are looked at at once


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a method makes of held-out anchors in one role, beside what they are.

    The figures are (n, 3), by :func:`~tokswap.solvers.likeness.likeness`, for the rows that the
    ``method`` makes, and for the ``mean_row`` and an ``other_anchor`` of those that were left.

    Attributes:
        ids: Donor ids of the n anchors that were held out.
        anchors: How many anchors there are, held-out ones included.
        folds: In how many parts they were held out, each part filled from all other anchors.
        base: Figures in the base's space.
        donor: Figures in the donor's space, by the same weights; NaN for a row that is made by no
            weights, or of base rows that no anchor stands for.
    """

    ids: list[int]
    anchors: int
    folds: int
    base: Mapping[str, Tensor]
    donor: Mapping[str, Tensor]


class Reduced(Alignment):
    """An alignment in which some shared tokens are missing."""

    @cached_property
    def pieces(self) -> dict[int, list[int]]:
        """No pieces: a held-out token's would be the base's token that it is."""
        return {int(number): [] for number in self.missing}


def without(alignment: Alignment, held: Sequence[int]) -> Reduced:
    """Take shared tokens, by their donor ids, for missing, so that they are no anchors."""
    said = {part.name: getattr(alignment, part.name) for part in fields(alignment)}
    said |= {"kind": alignment.kind.copy(), "source": alignment.source.copy()}
    said["kind"][list(held)] = Kind.MISSING
    said["source"][list(held)] = -1
    return Reduced(**said)


def reconstruct(
    alignment: Alignment,
    method: Method,
    tables: Tables,
    role: Role,
    *,
    count: int | None,
    seed: int = 0,
    device: str = "cpu",
    memory: int | None = None,
) -> Reconstruction:
    """Let a method fill some of the anchors from the others, and compare.

    Which anchors are held out is told by the seed and by their bytes, whatever their ids are and
    whatever the method; of a larger number, the smaller one is the beginning.

    Args:
        alignment: The new vocabulary against the base's.
        method: One that reads the donor's weights.
        tables: The base's and the donor's tables.
        role: The tables to look at.
        count: Anchors to hold out, at least 1; None, or more than there are, for all.
        seed: Seed of the choice, and of the method.
        device: Where to compute.
        memory: Bytes that solving may take; without it, a share of what there is.

    Raises:
        MethodError: If there are no donor's weights or too few anchors, or if the method cannot
            work on this pair.
    """
    if tables.donor is None:
        raise MethodError(
            f"{alignment.donor.name!r} is a bare tokenizer, and anchors are compared by the "
            "donor's weights; give a model"
        )
    base, donor = tables.base(role), tables.donor(role)
    blocks = Blocks(memory=memory)
    whole = tables.problem(role, alignment, [], seed=seed, device=device)
    fit = _fit_anchors(whole, method, donor)
    digests = {number: _digest(alignment, number, seed) for number in fit}
    fit.sort(key=digests.__getitem__)
    held = _with_rows(fit, alignment, base, donor, count)
    if len(fit) < 2 or not held:
        raise MethodError(
            f"{alignment.donor.name!r} shares {len(fit)} tokens with {alignment.base.name!r} that "
            "are fit to be anchors, too few to fill one from the others; choose a donor with a "
            "closer vocabulary"
        )
    folds = -(-len(held) // max(1, len(fit) // SHARE))
    parts = [held[fold::folds] for fold in range(folds)]
    figures: dict[str, list[Mapping[str, Tensor]]] = {"base": [], "donor": []}
    for chosen in parts:
        apart = set(chosen)
        left = [number for number in fit if number not in apart]
        others = [left[int.from_bytes(digests[n][:8]) % len(left)] for n in chosen]
        reduced = without(alignment, chosen)
        problem = tables.problem(role, reduced, chosen, seed=seed, device=device, blocks=blocks)
        problem = replace(problem, purpose="rows held out")
        answer = Answer.of(method.fill(problem), reduced.base_rows)
        source = alignment.source
        in_base = [source[ids].tolist() for ids in (chosen, left, others)]
        figures["base"].append(_figures(_rows_in_base(answer, reduced, base), base, *in_base))
        made = _rows_in_donor(answer, reduced, donor, left)
        figures["donor"].append(_figures(made, donor, chosen, left, others))
    base_figures, donor_figures = (
        {name: torch.cat([part[name] for part in figures[side]]) for name in figures[side][0]}
        for side in ("base", "donor")
    )
    ids = [number for chosen in parts for number in chosen]
    return Reconstruction(ids, len(fit), folds, base_figures, donor_figures)


def _fit_anchors(problem: Problem, method: Method, donor: Tensor) -> list[int]:
    """Donor ids of the anchors that the method may go by."""
    outliers = getattr(method, "outliers", None)
    return [int(number) for number in fit_anchors(problem, donor, outliers)]


def _digest(alignment: Alignment, number: int, seed: int) -> bytes:
    """Hash a token's bytes with the seed: a draw that does not depend on the token's id."""
    data = alignment.donor.spelling[number] or b""
    return hashlib.blake2b(data, digest_size=16, key=str(seed).encode()).digest()


def _with_rows(
    ids: list[int], alignment: Alignment, base: Tensor, donor: Tensor, count: int | None
) -> list[int]:
    """The first ``count`` whose rows are not all zeros, to which nothing compares."""
    found: list[int] = []
    for start in range(0, len(ids), _ROWS):
        part = ids[start : start + _ROWS]
        source = torch.from_numpy(alignment.source[part])
        there = donor[torch.tensor(part)].any(dim=1) & base[source].any(dim=1)
        found += [number for number, is_there in zip(part, there.tolist(), strict=True) if is_there]
        if count is not None and len(found) >= count:
            break
    return found[:count]


def _figures(
    made: Tensor, table: Tensor, chosen: list[int], left: list[int], others: list[int]
) -> dict[str, Tensor]:
    """Compare rows of a table with what was made of them, and with what takes no method.

    Args:
        made: (n, width) what the method makes.
        table: The table of one model.
        chosen: Ids of the n true rows.
        left: Ids of the anchors that were left.
        others: Ids of n of them.
    """
    true = table[torch.tensor(chosen)].float()
    mean = _combine(_mean_of(left, len(table)), None, table)[0]
    guesses = {METHOD: made, MEAN: mean.expand_as(true), OTHER: table[torch.tensor(others)].float()}
    return {name: likeness(rows, true, mean) for name, rows in guesses.items()}


def _rows_in_base(answer: Answer, reduced: Reduced, table: Tensor) -> Tensor:
    """The rows that a method gives, (n, D)."""
    averages = [_mean_of(reduced.used_base_ids.tolist(), len(table)), answer.averages]
    made = _combine(answer.weights, SparseRows.concatenate(averages), table)
    if len(answer.places):
        made[answer.places] = answer.rows.to(made.dtype)
    return made


def _rows_in_donor(answer: Answer, reduced: Reduced, table: Tensor, left: list[int]) -> Tensor:
    """The same weights on the donor's rows of the anchors, (n, E), and NaN where there are none.

    The mean of the base's rows has no counterpart but the mean of the anchors.
    """
    weights, own = answer.weights, answer.averages
    shared = [int(n) for n in reduced.ids(Kind.SHARED) if n < len(table)]
    donor_of = torch.full((reduced.base_rows,), -1, dtype=torch.int64)
    for ids in (shared, left):  # anchors have the last word
        donor_of[torch.from_numpy(reduced.source[ids])] = torch.tensor(ids, dtype=torch.int64)
    has_none = donor_of < 0
    donor_of.clamp_(min=0)
    mapped = own.map_columns(donor_of, len(table))
    below = SparseRows.concatenate([_mean_of(left, len(table)), mapped])
    averages = [own.between(row, row + 1) for row in range(len(own))]
    lacking = [False, *(bool(has_none[average.indices].any()) for average in averages)]
    columns = torch.cat([donor_of, len(table) + torch.arange(len(below))])
    made = _combine(weights.map_columns(columns, len(table) + len(below)), below, table)
    unknown = torch.cat([has_none, torch.tensor(lacking)])[weights.indices]
    rows = torch.repeat_interleave(weights.indptr.diff())
    made[rows[unknown]] = torch.nan
    made[answer.places] = torch.nan
    return made


def _mean_of(ids: Sequence[int], columns: int) -> SparseRows:
    return SparseRows.from_lists([ids], [[1.0 / len(ids)] * len(ids)], columns)


def _combine(weights: SparseRows, below: SparseRows | None, table: Tensor) -> Tensor:
    """Combine rows of a table and averages of them, in float64 whatever the table's type.

    Args:
        weights: (n, rows + A) over the table's rows and the averages.
        below: (A, rows) the averages; those that are not asked for are not computed.
        table: (rows, width).
    """
    rows, columns = torch.repeat_interleave(weights.indptr.diff()), weights.indices
    inside = columns < len(table)
    made = _sum(rows[inside], columns[inside], weights.weights[inside], table, len(weights))
    if below is not None:
        of_average = torch.repeat_interleave(below.indptr.diff())
        asked = torch.isin(of_average, columns[~inside] - len(table))
        averages = _sum(
            of_average[asked], below.indices[asked], below.weights[asked], table, len(below)
        )
        factors = weights.weights[~inside, None].double()
        made.index_add_(0, rows[~inside], factors * averages[columns[~inside] - len(table)])
    return made


def _sum(rows: Tensor, columns: Tensor, factors: Tensor, table: Tensor, count: int) -> Tensor:
    """Sum rows of a table times factors into ``count`` rows, some entries at a time."""
    made = torch.zeros(count, table.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _ENTRIES):
        some = slice(start, start + _ENTRIES)
        part = table.index_select(0, columns[some]).double().mul_(factors[some, None])
        made.index_add_(0, rows[some], part)
    return made
