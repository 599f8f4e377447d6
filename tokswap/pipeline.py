"""The whole transplant on one screen: open, align, plan, write, verify, measure, record."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import RECORD, check_space, check_target, staging
from tokswap.errors import EvaluationError, RecipeError, VerificationError
from tokswap.evaluation.measure import (
    Evaluation,
    evaluate,
    pick_device,
    rounded,
    settle_window,
)
from tokswap.evaluation.texts import file_text
from tokswap.names import resolve
from tokswap.output import write_folder, write_json
from tokswap.pair import Pair, open_pair
from tokswap.plan import PLAN_FILE, Plan
from tokswap.planning import make_plan
from tokswap.progress import note
from tokswap.recipe import Recipe, make_recipe
from tokswap.report.card import CARD, write_card
from tokswap.report.record import counts, make_record
from tokswap.report.warnings import warnings_for
from tokswap.verify import fresh_process, tokenizer_fault, verify


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


def transplant(
    recipe: Recipe | None = None,
    *,
    overwrite: bool = False,
    plan_only: bool = False,
    **settings: Any,
) -> Transplant:
    """Give a base model the donor's vocabulary, and write the result as a checkpoint.

    Args:
        recipe: What to do; or its fields as keywords: ``transplant(base_model="tiny-llama",
            donor="tiny-mistral", method="omp", parameters={"k": 32}, out="out/demo")``.
        overwrite: Replace an earlier output of this program at the same place.
        plan_only: Write only the plan and the record: no weights, no tokenizer.
        **settings: Fields of :class:`~tokswap.recipe.Recipe`, where no recipe is given.

    Returns:
        What was written, planned and measured.

    Raises:
        RecipeError: If the recipe is not valid.
        VerificationError: If the result does not load as what it should be.
        TokswapError: If something is wrong with a model, the output folder or the
            result; an output folder appears whole or not at all.
    """
    if recipe is not None and settings:
        raise RecipeError(f"both a recipe and {', '.join(settings)} were given; give one of them")
    recipe = recipe or make_recipe(settings)
    clock = _Clock()
    device = pick_device(recipe.device)
    target = Path(recipe.out or default_out(recipe)).expanduser()

    sources = [Checkpoint.open(recipe.base_model), Checkpoint.open(recipe.donor)]
    check_target(target, sources, overwrite=overwrite)
    _check_texts(recipe, target)
    checked = recipe.verify and not plan_only
    with fresh_process() if checked else nullcontext() as process:
        pair = clock.time("align", lambda: open_pair(recipe))
        if not plan_only:
            check_space(target, _bytes_needed(pair))
        scored = recipe.eval if pair.layout.causal else None
        if scored is not None:
            settle_window([pair.base], scored.window, scored.stride)
        warnings = warnings_for(pair, recipe)
        if not plan_only:
            warnings += clock.time("align", lambda: _tokenizer_warnings(pair, recipe))
        for warning in warnings:
            note(f"note: {warning}")
        plan = clock.time("plan", lambda: plan_for(pair, recipe, device))

        with staging(target, overwrite=overwrite) as folder:
            if plan_only:
                plan.save(folder / PLAN_FILE)
                record = make_record(recipe, pair, {}) | {"files": [RECORD, PLAN_FILE]}
                write_json(folder / RECORD, record)
            else:
                hashes, dropped = clock.time(
                    "write", lambda: write_folder(folder, pair, plan, recipe)
                )
                warnings += dropped
                for line in dropped:
                    note(f"note: {line}")
                record = make_record(recipe, pair, hashes)
                if recipe.verify:
                    note("verify in a fresh process")
                    same = recipe.dtype is None
                    record["verified"] = clock.time(
                        "verify", lambda: verify(folder, pair, same_dtype=same, process=process)
                    )
                record["files"] = sorted({path.name for path in folder.iterdir()} | {RECORD, CARD})
                write_json(folder / RECORD, record)
                write_card(folder / CARD, record, pair)

    evaluation = None
    if scored is not None and not plan_only:
        # The folder is in place by now: an interrupted measurement costs no transplant.
        evaluation = clock.time("evaluate", lambda: _measure(recipe, target, device))
        names = ("base", "result")
        figures = {n: rounded(s) for n, s in zip(names, evaluation.results, strict=True)}
        figures["result"]["model"] = "result"  # where the folder lies is not part of the record
        record = {**record, "figures": figures}
        write_json(target / RECORD, record)
        write_card(target / CARD, record, pair)
    return Transplant(target, recipe, record, plan, evaluation, tuple(warnings), clock.seconds)


def plan_for(pair: Pair, recipe: Recipe, device: str = "cpu") -> Plan:
    """Make the plan of a recipe for an opened pair.

    Raises:
        MethodError: If the method cannot work on this pair.
    """
    base, donor = pair.base.vocabulary, pair.donor.vocabulary
    about = {
        "base": {"name": base.name, "sha256": base.sha256},
        "donor": {"name": donor.name, "sha256": donor.sha256},
        "method": recipe.method,
        "parameters": recipe.record()["parameters"],
        "counts": counts(pair.alignment),
    }
    return make_plan(
        pair.alignment, recipe.methods, pair.tables(), seed=recipe.seed, device=device, about=about
    )


def default_out(recipe: Recipe) -> str:
    """Name an output folder from both models and the method."""
    base, donor = resolve(recipe.base_model), resolve(recipe.donor)
    return f"{base.short}-{donor.short}-{recipe.method}"


def _measure(recipe: Recipe, target: Path, device: str) -> Evaluation:
    assert recipe.eval is not None  # noqa: S101 - asked by the caller
    again = (
        f"{target} is written; `tokswap eval {target} --against {recipe.base_model}` measures it"
    )
    try:
        return evaluate(
            str(target),
            texts=[Path(text).expanduser() for text in recipe.eval.text],
            against=recipe.base_model,
            window=recipe.eval.window,
            stride=recipe.eval.stride,
            device=device,
        )
    except EvaluationError as error:
        raise EvaluationError(f"{error} ({again})") from error
    except KeyboardInterrupt:
        note(again)
        raise


def _tokenizer_warnings(pair: Pair, recipe: Recipe) -> list[str]:
    """Look at the tokenizer before anything slow is done.

    Raises:
        VerificationError: If verification would fail by it in the end.
    """
    fault = tokenizer_fault(pair)
    if fault and recipe.verify:
        raise VerificationError(f"{fault}; nothing was written; --no-verify goes on all the same")
    return [fault] if fault else []


def _check_texts(recipe: Recipe, target: Path) -> None:
    """Read the texts once before anything slow, for a misspelt name must not cost a transplant.

    Raises:
        EvaluationError: If one cannot be read, or lies in the folder that will be replaced.
    """
    for name in recipe.eval.text if recipe.eval else ():
        path = Path(name).expanduser()
        file_text(path)
        if target.resolve() in path.resolve().parents:
            raise EvaluationError(
                f"the text {name} lies in the output folder {target}, which will be replaced; "
                "move it elsewhere"
            )


def _bytes_needed(pair: Pair) -> int:
    """Estimate the output's size: the base's weights with the new rows, and room for the rest."""
    weights = sum(pair.base.files.path(shard).stat().st_size for shard in pair.base.shards)
    rows = pair.alignment.rows / pair.alignment.base_rows - 1
    tables = sum(pair.base.info(n).end - pair.base.info(n).begin for n in pair.layout.names)
    return int(weights + max(rows, 0) * tables) + (64 << 20)


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
