"""The last step of a refit: the rows of the head, from the states of the text to the plan."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokswap.blocks import digest
from tokswap.checkpoint.tables import load_table
from tokswap.methods import Role
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.refit.asked import STRENGTHS
from tokswap.refit.context import Context, base_identity
from tokswap.refit.head import HeadForm, find_form
from tokswap.refit.outputs import Fitted, chosen, fit_rows
from tokswap.refit.rows import bias_of, of_first, rows_of, with_rows
from tokswap.refit.states import WINDOWS, Reader, kept_part, read_all
from tokswap.refit.store import StateStore
from tokswap.refit.tied import best_part, parts
from tokswap.refit.windows import Block
from tokswap.solvers.softmax_rows import Head

SHARES = (1.0, 0.5)
"""How far a base with one table is tried to go to the fitted rows."""


def fit(context: Context, plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Fit the rows of the head to the states of the text, if held-out text is the better for it.

    Args:
        context: What the refit works on.
        plan: The plan, whose embedding may have been refined.

    Raises:
        RefitError: If the model or the disk is of no use.
        RankError: If another rank fails.
    """
    layout, cut = context.pair.layout, context.cut
    model = context.swapped.model(plan)
    some = torch.tensor([cut.fit[0].inputs[:16]], device=context.device)
    form = find_form(model, some, context.name)
    part = kept_part(cut.tokens, context.times, len(context.free))
    to_fit, held_out = cut.blocks(WINDOWS)
    blocks = [*to_fit, *held_out]
    key = _key(context, plan, blocks, part)
    store = StateStore(context.work.folder, key, len(blocks), memory=context.work.memory // 4)
    table = load_table(context.pair.base, layout.output).float()
    if context.ranks.first:
        store.check_room(int(cut.tokens * part) + context.times, table.shape[1])
    reader = Reader(model, form, context.place, context.name, part, context.seed)
    read_all(reader, blocks, store, context.ranks, "read the text's states")
    role: Role = "input" if layout.tied else "output"
    start = rows_of(plan.roles[role], context.free, table).to(context.device)
    rows, about = start, dict[str, Any]()
    if context.ranks.first:
        numbers = range(len(to_fit)), range(len(to_fit), len(blocks))
        found = fit_rows(
            store,
            numbers,
            start,
            _head(context, form),
            variance=float(table.var()),
            strengths=(context.asked.strength,) if context.asked.strength else STRENGTHS,
            memory=context.work.memory,
            every=layout.tied,  # as both kinds of row another may be best than as rows of a head
        )
        if layout.tied:
            candidates = [
                candidate
                for one in found
                for candidate in parts(start, one.rows, SHARES, strength=one.strength)
            ]
            best, about = best_part(context, plan, candidates)
            rows = start if best is None else best.rows
        else:
            rows, about = _choose(found, start)
        about["part"] = part
        store.clear()
    rows, about = of_first(context.ranks, rows, about)
    if not about["kept"]:
        note("note: held-out text is no better for refitted rows of the head; they stay")
        return plan, about
    bias = bias_of(context.pair, plan)
    made = with_rows(plan.roles[role], context.free, rows, bias)
    return replace(plan, roles={**plan.roles, role: made}), about


def _choose(found: Sequence[Fitted], start: Tensor) -> tuple[Tensor, dict[str, Any]]:
    best = chosen(found)
    about: dict[str, Any] = {
        "tried": [{"strength": one.strength, "gain": one.gain} for one in found],
        "kept": best is not None,
    }
    if best is None:
        return start, about
    return best.rows, about | {"strength": best.strength, "gain": best.gain}


def _head(context: Context, form: HeadForm) -> Head:
    bias = None if form.bias is None else form.bias[context.free.to(form.bias.device)] * form.scale
    return Head(None if bias is None else bias.float(), form.cap)


def _key(context: Context, plan: Plan, blocks: Sequence[Block], part: float) -> str:
    """Digest everything that decides the states: the base, all rows, the windows and the device."""
    said: dict[str, Any] = {
        "base": base_identity(context.pair.base),
        "windows": [
            [[w.inputs, w.targets] for w in block.windows] + [block.weight] for block in blocks
        ],
        "device": torch.device(context.device).type,
        "part": part,
        "seed": context.seed,
    }
    tensors = [context.free]
    for each in plan.roles.values():
        tensors += [each.weights.indptr, each.weights.indices, each.weights.weights]
        tensors += [each.averages.indices, each.averages.weights, each.dense_ids, each.dense_rows]
    return digest(said, *tensors)
