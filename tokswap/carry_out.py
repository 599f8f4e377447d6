"""Carry a transplant out: open, align, plan, write, verify, measure, record."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tokswap.beside import look_beside, write_json
from tokswap.blocks import Blocks
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import RECORD, check_target, staging
from tokswap.estimate import Estimate, check_room, estimate
from tokswap.evaluation.measure import Evaluation, pick_device, settle_window
from tokswap.kept_blocks import KeptBlocks
from tokswap.memory import parse_size
from tokswap.new_tensors import replacements
from tokswap.output import Tensors, write_folder
from tokswap.pair import Pair
from tokswap.plan import PLAN_FILE, Plan
from tokswap.progress import note
from tokswap.ranks import Ranks, joined
from tokswap.recipe import Recipe
from tokswap.report.card import CARD, write_card
from tokswap.report.held_out import held_out_doubts, not_checked
from tokswap.report.record import make_record, measured_record
from tokswap.report.untrained import untrained_line
from tokswap.report.warnings import warnings_for
from tokswap.stages import (
    bring_base,
    check_texts,
    clear,
    is_measurable,
    look_again,
    measure,
    share_fetched,
)
from tokswap.tokenizer_folder import settle
from tokswap.verify import fresh_process


@dataclass(frozen=True, eq=False)
class Transplant:
    """What came of a transplant.

    Attributes:
        folder: The written folder.
        recipe: What was asked for.
        record: What tokswap.json holds.
        plan: Where every new row comes from.
        evaluation: Base and result on the same text, or None where it was not asked for.
        warnings: What the user should know.
        seconds: Wall time of each stage.
    """

    folder: Path
    recipe: Recipe
    record: Mapping[str, Any]
    plan: Plan
    evaluation: Evaluation | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: the record, the folder, the warnings and the wall times."""
        return {
            "out": str(self.folder),
            **self.record,
            "results": self.evaluation.to_dict()["results"] if self.evaluation else [],
            "warnings": list(self.warnings),
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }


@dataclass(frozen=True, eq=False)
class Work:
    """What a transplant and the application of a saved plan do each in its own way.

    Attributes:
        sources: The checkpoints that are read from.
        target: The folder to write.
        open: Opens and aligns both models, and tells what the user should know of that.
        plan: Makes the plan, on a device, by what solves in blocks, and tells likewise.
        held_out: Sums up what anchors that are held out say of it, if they are to be.
        record: What the record says, in the end, beside what every record says.
        estimate: Estimates what will be fetched, computed and written.
        tensors: Says what takes the place of which of the base's stored tensors.
    """

    sources: list[Checkpoint]
    target: Path
    open: Callable[[], tuple[Pair, list[str]]]
    plan: Callable[[Pair, str, Blocks], tuple[Plan, list[str]]]
    held_out: Callable[[Pair, str], Mapping[str, Any] | None] = lambda _pair, _device: None
    record: Callable[[], Mapping[str, Any]] = dict
    estimate: Callable[..., Estimate] = estimate
    tensors: Tensors = replacements


def carry_out(
    recipe: Recipe,
    work: Work,
    *,
    overwrite: bool = False,
    plan_only: bool = False,
    resume: bool = False,
) -> Transplant:
    """Open, plan, write, verify, measure and record; see :func:`transplant`.

    Raises:
        VerificationError: If the result does not load as what it should be.
        TokswapError: If something is wrong with a model, the output folder or the result, or
            another process of the run fails.
    """
    with joined() as ranks:
        device = ranks.device(pick_device(recipe.device))
        memory = parse_size(recipe.memory) if recipe.memory else None
        if not ranks.first:
            share_fetched(None, work.sources, ranks)
            pair, _ = work.open()
            plan, _ = work.plan(pair, device, Blocks(memory=memory, ranks=ranks))
            return Transplant(work.target, recipe, {}, plan, None, ())
        clear(work.target)
        check_target(work.target, work.sources, overwrite=overwrite)
        with KeptBlocks(work.target, resume=resume).held() as keep:
            blocks = Blocks(memory=memory, ranks=ranks, keep=keep)
            flags = {"overwrite": overwrite, "plan_only": plan_only}
            return _carry_out(recipe, work, device, blocks, ranks, **flags)


def _carry_out(
    recipe: Recipe,
    work: Work,
    device: str,
    blocks: Blocks,
    ranks: Ranks,
    *,
    overwrite: bool,
    plan_only: bool,
) -> Transplant:
    """Do what the first process of a run does.

    Raises:
        VerificationError: If the result does not load as what it should be.
        TokswapError: If something is wrong with a model, the output folder or the result.
    """
    clock = _Clock()
    seen = check_texts(recipe, work.target)
    measured = not plan_only and is_measurable(recipe, work.sources[0])
    with fresh_process() if recipe.verify and not plan_only else nullcontext() as process:
        pair, warnings = clock.time("align", work.open)
        check_room(work.estimate(pair, recipe, plan_only=plan_only), work.target)
        tokenizer = beside = None
        if not plan_only:
            beside = look_beside(pair, recipe)  # what it refuses is refused before anything slow
            tokenizer = clock.time("align", lambda: settle(pair))
        if (measured := measured and pair.layout.causal) and recipe.eval is not None:
            settle_window([pair.base], recipe.eval.window, recipe.eval.stride)
        notes = tokenizer.notes() if tokenizer else []
        warnings = _told(*warnings, seen if measured else None, *warnings_for(pair, recipe), *notes)
        if not plan_only:
            bring_base(pair, clock.time)
        share_fetched(pair, work.sources, ranks)
        held_out, plan, told = clock.time("plan", partial(_planned, work, pair, device, blocks))
        ranks.part()
        warnings += told

        with staging(work.target, overwrite=overwrite) as folder:
            if tokenizer is None:
                plan.save(folder / PLAN_FILE)
                record = make_record(recipe, pair, plan, {}, held_out) | {
                    "files": [RECORD, PLAN_FILE]
                }
                write_json(folder / RECORD, record)
            else:
                write = partial(
                    write_folder,
                    folder,
                    pair,
                    plan,
                    recipe,
                    tokenizer,
                    beside,
                    tensors=work.tensors,
                )
                hashes, told = clock.time("write", write)
                warnings += _told(*told)
                record = make_record(recipe, pair, plan, hashes, held_out) | dict(work.record())
                record["tokenizer"] = tokenizer.to_dict()
                if recipe.verify:
                    look = partial(look_again, folder, pair, plan, recipe, tokenizer, process)
                    record["verified"], not_run = clock.time("verify", look)
                    warnings += _told(not_run)
                record["notes"] = list(warnings)
                record["files"] = sorted({path.name for path in folder.iterdir()} | {RECORD, CARD})
                write_json(folder / RECORD, record)
                write_card(folder / CARD, record, pair)

    blocks.finish()
    evaluation = None
    if measured:
        # The folder is in place by now: an interrupted measurement costs no transplant.
        evaluation = clock.time("evaluate", lambda: measure(recipe, work.target, device))
        record = {**record, **measured_record(evaluation)}
        write_json(work.target / RECORD, record)
        write_card(work.target / CARD, record, pair)
    return Transplant(work.target, recipe, record, plan, evaluation, tuple(warnings), clock.seconds)


def _planned(
    work: Work, pair: Pair, device: str, blocks: Blocks
) -> tuple[Mapping[str, Any] | None, Plan, list[str]]:
    """Look at held-out anchors, and make the plan.

    The anchors come first: they may say that there is no point in the slow part.
    """
    held_out = work.held_out(pair, device)
    told = _told(*held_out_doubts(held_out))
    plan, more = work.plan(pair, device, blocks)
    told += _told(*more)
    told += _told(untrained_line(plan.about.get("untrained") or {}), not_checked(held_out))
    return held_out, plan, told


def _told(*lines: str | None) -> list[str]:
    """Tell the user what there is to know; return it."""
    told = [line for line in lines if line]
    for line in told:
        note(f"note: {line}")
    return told


T = TypeVar("T")


class _Clock:
    """Wall time of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return work()
        finally:
            past = self.seconds.get(stage, 0.0)
            self.seconds[stage] = past + time.monotonic() - start
