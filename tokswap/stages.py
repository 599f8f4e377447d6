"""Stages of a transplant around the writing: what comes before it and after it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tokswap.checkpoint.leftovers import clear_leftovers
from tokswap.checkpoint.licences import files_for_card
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import load_table
from tokswap.checkpoint.target import RECORD
from tokswap.checkpoint.writer import needed_files
from tokswap.errors import EvaluationError
from tokswap.evaluation.load import loading_obstacle
from tokswap.evaluation.measure import Evaluation, evaluate
from tokswap.evaluation.seen_before import seen_before
from tokswap.evaluation.texts import file_text
from tokswap.fitting import as_planned
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.ranks import Ranks
from tokswap.recipe import Recipe
from tokswap.tokenizer_folder import Settled
from tokswap.verify import verify

Timed = Callable[[str, Callable[[], Any]], Any]
"""Does a piece of work under the name of a stage whose time is taken."""


def clear(target: Path) -> None:
    """Remove what killed runs left beside a target, and tell of it."""
    for line in clear_leftovers(target, known=RECORD):
        note(f"note: {line}")


def bring_base(pair: Pair, timed: Timed) -> None:
    """Fetch a remote base whole, and look at its tables before anything is written.

    Only now, for all that the headers and the vocabularies can tell has been checked by them.
    """
    if pair.base.location.kind == "hub":
        timed("fetch", lambda: pair.base.files.fetch(needed_files(pair.base)))
    if pair.donor.location.kind == "hub":
        timed("fetch", lambda: pair.donor.files.fetch(files_for_card(pair.donor)))
    for tensor in pair.layout.tensors:
        timed("align", partial(load_table, pair.base, tensor.name, tensor.axis))


def share_fetched(pair: Pair | None, sources: list[Checkpoint], ranks: Ranks) -> None:
    """Let the first rank fetch what is remote, for all may have one cache; the others wait.

    Args:
        pair: The opened models; None for the ranks that wait.
        sources: The base and the donor.
        ranks: All of them.
    """
    if ranks.world == 1 or not any(source.location.kind == "hub" for source in sources):
        return
    if pair and pair.donor_layout:
        names = {pair.donor_layout.input}
        names |= set() if pair.layout.tied else {pair.donor_layout.output}
        for name in sorted(names):
            load_table(pair.donor, name)
    ranks.agree("models that are there", b"")


def check_texts(recipe: Recipe, target: Path) -> str | None:
    """Read the texts once before anything slow, for a misspelt name must not cost a transplant.

    Returns:
        What the user should know of them.

    Raises:
        EvaluationError: If one cannot be read, or lies in the folder that will be replaced.
    """
    for name in recipe.refit.text if recipe.refit else ():
        file_text(Path(name).expanduser())
    for name in recipe.eval.text if recipe.eval else ():
        path = Path(name).expanduser()
        file_text(path)
        if target.resolve() in path.resolve().parents:
            raise EvaluationError(
                f"the text {name} lies in the output folder {target}, which will be replaced; "
                "move it elsewhere"
            )
    if recipe.eval is None or recipe.refit is None:
        return None
    return seen_before(recipe.eval.text, recipe.refit.text, recipe.refit.tokens)


def look_again(
    folder: Path, pair: Pair, plan: Plan, recipe: Recipe, tokenizer: Settled, process: Any
) -> tuple[dict[str, Any], str | None]:
    """Check what was written; return what was seen, and what the user should know of it."""
    note("verify in a fresh process")
    if any(method.fills_shared for method in recipe.methods.values()):
        pair = replace(pair, alignment=as_planned(pair.alignment, plan))
    same = recipe.dtype is None
    seen = verify(folder, pair, same_dtype=same, tokenizer=tokenizer, process=process)
    if "not_run" not in seen:
        return seen, None
    warning = (
        f"the quantised model was not run, for its base cannot be run here either "
        f"({seen['not_run']}); tokenizer and copied rows were checked"
    )
    return seen, warning


def is_measurable(recipe: Recipe, base: Checkpoint) -> bool:
    """Tell whether to measure: not where transformers cannot load the quantised base here.

    Raises:
        EvaluationError: If it cannot, and the recipe asks for it in so many words.
    """
    if recipe.eval is None or base.quantisation is None:
        return recipe.eval is not None
    reason = loading_obstacle(base.files.path("config.json").parent)
    if reason and "eval" in recipe.model_fields_set:
        raise EvaluationError(
            f"{base.name} is quantised and cannot be loaded here to be measured ({reason}); "
            "--no-eval goes on without"
        )
    if reason:
        note(
            f"note: {base.name} is quantised and cannot be loaded here, so nothing is measured "
            f"({reason})"
        )
    return not reason


def measure(recipe: Recipe, target: Path, device: str) -> Evaluation:
    """Measure the base, on its own cut and on the new one, and what was written.

    Raises:
        EvaluationError: If one of them cannot be measured; the message says how to do it again.
        KeyboardInterrupt: If the user ends it.
    """
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
