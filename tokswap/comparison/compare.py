"""Comparing methods: each makes its plan for one pair, is swapped in memory, and is measured."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokswap.comparison.bench import Bench
from tokswap.comparison.figures import Failure, Result, rounded_all, sum_up
from tokswap.comparison.kept import Kept
from tokswap.comparison.recipe import Comparison, make_comparison
from tokswap.comparison.runs import Run
from tokswap.comparison.store import CHART, TABLE, Store
from tokswap.errors import OutputError, RecipeError, TokswapError
from tokswap.evaluation.cut_cost import CutCost, cut_cost
from tokswap.evaluation.measure import SAMPLE, pick_device
from tokswap.evaluation.texts import file_text
from tokswap.names import resolve
from tokswap.progress import note
from tokswap.report.comparison import as_csv
from tokswap.report.comparison_plot import draw


@dataclass(frozen=True, eq=False)
class Compared:
    """What came of a comparison.

    Attributes:
        asked: What was asked for.
        folder: Where everything is kept.
        own: Figures of the base on its own cut of the text.
        floor: Figures of the base's own rows on the text as the donor cuts it, new tokens spelled
            in the base's pieces: what is lost by the cut alone.
        results: The methods, the best first.
        failures: The methods that did not come to an end.
        about: The text, how it was read, and where.
    """

    asked: Comparison
    folder: Path
    own: Mapping[str, Any]
    floor: Mapping[str, Any]
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    about: Mapping[str, Any]

    @property
    def cut(self) -> CutCost:
        """What the cut alone costs, by kind of text."""
        return cut_cost(self.own["kinds"], self.floor["kinds"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; it is what compare.json holds."""
        return {
            "base_model": self.asked.base_model,
            "donor": self.asked.donor,
            **self.about,
            "own": dict(self.own),
            "floor": dict(self.floor),
            "cut": rounded_all(self.cut.to_dict()),
            "results": [result.to_dict(self.floor) for result in self.results],
            "failures": [failure.to_dict() for failure in self.failures],
            "asked": self.asked.record(),
        }


def compare(recipe: Comparison | None = None, *, fresh: bool = False, **settings: Any) -> Compared:
    """Measure several methods on one pair and one text; no checkpoint is written.

    What is finished is kept in the output folder, so that a comparison that was stopped goes on,
    and one with more methods measures only those that are new.

    Args:
        recipe: What to compare; or its fields as keywords: ``compare(base_model="tiny-llama",
            donor="tiny-mistral", methods=["pieces", {"method": "omp", "parameters":
            {"k": [8, 32]}}])``.
        fresh: Measure anew what an earlier run has kept.
        **settings: Fields of :class:`~tokswap.comparison.recipe.Comparison`, where no recipe is
            given.

    Returns:
        The figures of all methods. One that fails is told in ``failures``, and the others go on.

    Raises:
        RecipeError: If what is asked for is not valid.
        TokswapError: If one of the models, a text or the output folder is of no use.
        KeyboardInterrupt: If the user ends it; what is finished is kept.
    """
    if recipe is not None and settings:
        raise RecipeError(f"both a recipe and {', '.join(settings)} were given; give one of them")
    asked = recipe or make_comparison(settings)
    paths = [Path(name).expanduser() for name in asked.eval.text] or [SAMPLE]
    for path in [*paths, *(Path(name).expanduser() for name in asked.train_text)]:
        file_text(path)  # a misspelt name must not cost a comparison
    pair = resolve(asked.base_model).short, resolve(asked.donor).short
    store = Store(asked.target, pair)
    device = pick_device(asked.device)
    bench = Bench.open(asked, paths, device)
    store.begin()
    try:
        return _compare(asked, bench, Kept(store, bench, fresh=fresh))
    except KeyboardInterrupt:
        note(f"what is finished is kept in {store.folder}; the same command goes on from there")
        raise


def _compare(asked: Comparison, bench: Bench, kept: Kept) -> Compared:
    """Measure everything, and write what came of it.

    Raises:
        OutputError: If the folder cannot be written to.
    """
    own = kept.reference("own", bench.own)
    floor = kept.reference("floor", bench.floor)
    done: dict[str, list[dict[str, Any]]] = {}
    failures: list[Failure] = []
    for number, run in enumerate(asked.runs, start=1):
        seed = f", seed {run.recipe.seed}" if run.draws and len(asked.seed) > 1 else ""
        called = f"{number} of {len(asked.runs)}: {run.label}{seed}"
        try:
            said = kept.run(run, called, partial(bench.measure, run))
        except OutputError:
            raise  # the folder's fault, and not the method's
        except TokswapError as error:
            failures.append(_failure(run, " ".join(str(error).split())))
        except Exception as error:  # whatever befalls one method, the others are measured
            reason = " ".join(str(error).split())[:300]
            where = None if isinstance(error, MemoryError) else traceback.format_exc()
            failures.append(_failure(run, f"{type(error).__name__}: {reason}".rstrip(": "), where))
        else:
            done.setdefault(run.label, []).append(said)
            continue
        note(f"{called}: {failures[-1].error}")
    draws = {run.label: run.draws for run in asked.runs}
    results = [sum_up(said, draws=draws[label]) for label, said in done.items()]
    compared = Compared(
        asked=asked,
        folder=kept.store.folder,
        own=own,
        floor=floor,
        results=tuple(sorted(results, key=lambda result: result.bits_per_byte)),
        failures=tuple(failures),
        about=bench.about(),
    )
    kept.store.write_record(compared.to_dict())
    kept.store.write(TABLE, as_csv(compared).encode())
    if (chart := draw(compared)) is not None:
        kept.store.write(CHART, chart)
    return compared


def _failure(run: Run, error: str, where: str | None = None) -> Failure:
    return Failure(run.label, run.method, run.recipe.seed, error, where)
