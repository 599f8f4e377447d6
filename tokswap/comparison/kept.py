"""What an earlier run has measured is not measured again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from tokswap.comparison import identity
from tokswap.comparison.bench import Bench
from tokswap.comparison.figures import figures_of
from tokswap.comparison.runs import Run
from tokswap.comparison.store import Store
from tokswap.progress import note

if TYPE_CHECKING:
    from tokswap.evaluation.loaded import CutScore


class Kept:
    """Measures what no earlier run has kept, and keeps it.

    Args:
        store: Where it is kept.
        bench: What it is measured on.
        fresh: Measure everything anew.
    """

    def __init__(self, store: Store, bench: Bench, *, fresh: bool) -> None:
        self.store = store
        self._bench = bench
        self._fresh = fresh
        self._common = {
            **identity.program(),
            "base": identity.of_model(bench.pair.base),
            "text": list(identity.of_files([str(path) for path in bench.paths]).values()),
            "order": [path.name for path in bench.paths],
            "window": bench.window,
            "stride": bench.stride,
            "device": bench.device.partition(":")[0],
        }
        self._pair = {
            "donor": identity.of_model(bench.pair.donor),
            "tokenizer": bench.asked.tokenizer.model_dump(mode="json"),
            "tensors": bench.asked.tensors.model_dump(mode="json"),
        }

    def key_of(self, what: Run | Literal["own", "floor"]) -> str:
        """Hash everything that decides the figures of a run, the base's own cut or the floor."""
        said = dict(self._common)
        if what != "own":
            said |= self._pair
        if isinstance(what, str):
            return identity.digest({**said, "what": what})
        settings = settings_of(what)
        said |= {"settings": settings, "files": identity.of_files(settings)}
        return identity.digest({**said, "seed": what.recipe.seed})

    def reference(
        self, name: Literal["own", "floor"], measure: "Callable[[], CutScore]"
    ) -> dict[str, Any]:
        """Give the figures of the base on its own cut, or of the segmentation floor.

        Args:
            name: Which of both.
            measure: Measures it, where no earlier run has kept it.
        """
        key = self.key_of(name)
        if (found := self._find(key)) is None:
            found = {"figures": figures_of(measure(), self._bench.pair.alignment)}
            self.store.put(key, name, found)
        return dict(found["figures"])

    def run(self, run: Run, called: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Give what a run came to.

        Args:
            run: The run.
            called: What progress calls it.
            measure: Does it, where no earlier run has kept it.
        """
        key = self.key_of(run)
        named = {"label": run.label, "method": run.method, "seed": run.recipe.seed}
        if (found := self._find(key)) is not None:
            note(f"{called}: from an earlier run")
            return {**found, **named, "earlier": True}
        note(called)
        said = {**named, "settings": settings_of(run), **measure()}
        several = run.draws and len(self._bench.asked.seed) > 1
        self.store.put(key, f"{run.label} seed={run.recipe.seed}" if several else run.label, said)
        return {**said, "earlier": False}

    def _find(self, key: str) -> dict[str, Any] | None:
        return None if self._fresh else self.store.find(key)


def settings_of(run: Run) -> dict[str, Any]:
    """Say how a run fills the rows, as in a recipe, with all defaults."""
    record = run.recipe.record()
    names = ("method", "parameters", "per_kind", "refit")
    return {name: record[name] for name in names if record.get(name)}
