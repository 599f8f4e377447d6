"""The bench that methods are measured on: one pair, one text, one model to swap rows into."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.blocks import Blocks
from tokswap.comparison import identity
from tokswap.comparison.figures import figures_of
from tokswap.comparison.recipe import Comparison
from tokswap.comparison.runs import Run
from tokswap.errors import EvaluationError, OutputError, TokswapError
from tokswap.evaluation.measure import settle_window
from tokswap.evaluation.seen_before import seen_before
from tokswap.evaluation.texts import Text, file_text
from tokswap.memory import parse_size
from tokswap.pair import Pair, check_weights, find_donor_layout, open_models, pair_of
from tokswap.peak import peak_memory
from tokswap.peak_memory import checked
from tokswap.pipeline import plan_for
from tokswap.ranks import Ranks
from tokswap.recipe import Recipe

if TYPE_CHECKING:
    from tokswap.evaluation.loaded import CutScore
    from tokswap.evaluation.swapped import SwappedModel
    from tokswap.plan import Plan
    from tokswap.refit.context import Written


@dataclass(frozen=True, eq=False)
class Bench:
    """The opened pair, the text, and the model that rows are swapped into.

    Attributes:
        asked: What is compared.
        pair: The base and the donor.
        donor_fault: Why the donor's weights cannot be read, if a method asks for them.
        paths: The files of the text.
        texts: The same, to read.
        window: Tokens that the model sees at once.
        stride: Tokens by which the window moves.
        device: Where to compute.
    """

    asked: Comparison
    pair: Pair
    donor_fault: TokswapError | None
    paths: list[Path]
    texts: list[Text]
    window: int
    stride: int
    device: str
    _pairs: dict[str, Pair] = field(default_factory=dict)

    @classmethod
    def open(cls, asked: Comparison, paths: list[Path], device: str) -> "Bench":
        """Open the pair, with the donor's weights if a method needs them.

        Args:
            asked: What is compared.
            paths: The files of the text.
            device: Where to compute.

        Raises:
            TokswapError: If the base, the donor's vocabulary or a text is of no use. Donor's
                weights that are of no use are the fault of the methods that need them.
        """
        recipes = [run.recipe for run in asked.runs]
        base, donor, kept_bos = open_models(recipes[0])
        window, stride = settle_window([base], asked.eval.window, asked.eval.stride)
        pair = replace(pair_of(base, donor, recipes[0], with_donor=False), kept_bos=kept_bos)
        fault = None
        if needing := [recipe for recipe in recipes if recipe.needs_donor]:
            try:
                check_weights(donor, needing[0])
                pair = replace(pair, donor_layout=find_donor_layout(donor))
            except TokswapError as error:
                fault = error
        texts = [file_text(path) for path in paths]
        return cls(asked, pair, fault, paths, texts, window, stride, device)

    @cached_property
    def model(self) -> "SwappedModel":
        """The base, loaded when something is measured."""
        from tokswap.evaluation.swapped import SwappedModel

        return SwappedModel.load(self.pair, device=self.device)

    @cached_property
    def _written(self) -> "Written":
        """What the base has written itself: every method is refitted to the same."""
        return {}

    def own(self) -> "CutScore":
        """Measure the base on its own cut of the text."""
        return self.model.own(self.texts, window=self.window, stride=self.stride)

    def floor(self) -> "CutScore":
        """Measure the base's own rows on the text as the donor cuts it."""
        return self.model.floor(self.texts, window=self.window, stride=self.stride)

    def measure(self, run: Run) -> dict[str, Any]:
        """Make the plan of a method and measure it.

        Raises:
            EvaluationError: If what comes of the method cannot be measured.
            TokswapError: If the method cannot work on this pair.
        """
        recipe = run.recipe
        if recipe.needs_donor and self.donor_fault is not None:
            check_weights(self.pair.donor, recipe)  # which names the method
            raise self.donor_fault
        pair = checked(self._pair(recipe.record()), recipe)
        _ = pair.alignment.pieces  # found once for all, or the first method would pay for it
        blocks = Blocks(memory=self._memory(recipe))
        with peak_memory(self.device) as peak:
            start = time.monotonic()
            plan = plan_for(pair, recipe, self.device, blocks)
            planned = time.monotonic()
        try:
            cut = self.model.swapped(
                plan, self.texts, window=self.window, stride=self.stride, name=run.label
            )
            measured = time.monotonic()
            refitted = self._refitted(pair, plan, run)
        except OutputError as error:  # of rows that the base's type cannot hold: the method's fault
            raise EvaluationError(str(error)) from error
        return {
            "figures": figures_of(cut, pair.alignment),
            "seconds": round(planned - start, 3),
            "evaluation_seconds": round(measured - planned, 3),
            "peak_memory": peak.bytes,
            **refitted,
        }

    def _refitted(self, pair: Pair, plan: "Plan", run: Run) -> dict[str, Any]:
        """Refit the rows of a plan and measure them, where that is asked for."""
        if run.recipe.refit is None:
            return {}
        from tokswap.refit.context import Work
        from tokswap.refit.refit import refit

        memory = Blocks(memory=self._memory(run.recipe)).memory(self.device)
        with tempfile.TemporaryDirectory(prefix="tokswap-") as name:
            start = time.monotonic()
            where = Path(name), self.device
            work = Work(*where, Ranks(), memory, run.recipe.seed, self._written)
            found = refit(pair, plan, run.recipe.refit, work=work, swapped=self.model)
            seconds = time.monotonic() - start
        shown = {"window": self.window, "stride": self.stride}
        cut = self.model.swapped(found.plan, self.texts, **shown, name=f"{run.label}, refitted")
        figures = figures_of(cut, pair.alignment)
        return {"refit": {"figures": figures, "seconds": round(seconds, 3), "about": found.about}}

    @staticmethod
    def _memory(recipe: Recipe) -> int | None:
        return parse_size(recipe.memory) if recipe.memory else None

    def _pair(self, record: Mapping[str, Any]) -> Pair:
        """Give the pair with what methods have found of it, which depends on `outliers`."""
        said = identity.digest(_outliers([record["parameters"], record.get("per_kind")]))
        return self._pairs.setdefault(said, replace(self.pair))

    def _seen_before(self) -> str | None:
        """Say how much of the text is in that of the refit."""
        refit = self.asked.refit
        return seen_before(self.asked.eval.text, refit.text, refit.tokens) if refit else None

    def about(self) -> dict[str, Any]:
        """Say what was measured on."""
        return {
            "text": [text.name for text in self.texts],
            "seen_before": self._seen_before(),
            "window": self.window,
            "stride": self.stride,
            "device": self.device,
            "version": identity.program()["version"],
        }


def _outliers(said: Any) -> list[Any]:
    """Find every `outliers` in settings."""
    if isinstance(said, Mapping):
        own = [said["outliers"]] if "outliers" in said else []
        return own + [found for part in said.values() for found in _outliers(part)]
    if isinstance(said, list | tuple):
        return [found for part in said for found in _outliers(part)]
    return []
