"""What tests of the refit work on."""

from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokswap.bundled.train.corpus import training_prose
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text
from tokswap.pair import Pair, open_pair
from tokswap.pipeline import plan_for
from tokswap.plan import Plan
from tokswap.ranks import Ranks
from tokswap.recipe import make_recipe
from tokswap.refit.asked import RefitPart
from tokswap.refit.context import Context, Work, Written

MEMORY = 1 << 30


@dataclass(frozen=True, eq=False)
class Bench:
    """A pair, the plan of a method for it, and the loaded base."""

    pair: Pair
    plan: Plan
    swapped: SwappedModel
    written: Written = field(default_factory=dict)

    def context(self, folder: Path, ranks: Ranks | None = None, **asked: Any) -> Context:
        """What a refit works on, with short windows and little text if nothing else is said."""
        said = RefitPart(**{"window": 64, "tokens": 4_000, "written": 0, **asked})
        work = Work(folder, "cpu", ranks or Ranks(), MEMORY, written=self.written)
        return Context(self.pair, said, self.swapped, work)


def bench(base: str, donor: str, method: str = "pieces", **more: Any) -> Bench:
    """Open a pair and load its base."""
    said = {"base_model": base, "donor": donor, "method": method, "eval": False}
    recipe = make_recipe(said | more)
    pair = open_pair(recipe)
    return Bench(pair, plan_for(pair, recipe), SwappedModel.load(pair))


@cache
def prose(characters: int) -> str:
    """So much of the documentation that every Python installation carries."""
    size = 0

    def more(document: str) -> bool:
        nonlocal size
        before, size = size, size + len(document)
        return before < characters

    return "\n\n".join(takewhile(more, training_prose()))[:characters]


def text_of(*documents: str, name: str = "given") -> Text:
    """A text of some documents."""
    return Text(name, lambda: iter([iter([document]) for document in documents]))
