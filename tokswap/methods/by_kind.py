"""Different methods for different kinds of tokens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from tokswap.methods.answer import Answer, joined
from tokswap.methods.base import Method, Problem
from tokswap.methods.composite import Composite
from tokswap.methods.cost import Cost, Sizes, together
from tokswap.vocabulary.kinds import KINDS


class ByKind(Composite):
    """A method for the tokens of each kind, and one for the rest.

    A token of several kinds is the first one's of them. It is what `per_kind:` in a recipe makes.
    """

    summary: ClassVar[str] = "a method of its own for each kind of token"
    paper: ClassVar[str] = "none"

    rest: Method = Field(description="the method of all other tokens")
    kinds: Mapping[str, Method] = Field(description="methods by kind of token")

    @property
    def parts(self) -> list[Method]:
        """See :attr:`Composite.parts`."""
        return [*self.kinds.values(), self.rest]

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`; every method is taken to fill all tokens, which is too much."""
        return together([method.cost(sizes) for method in self.parts])

    def fill(self, problem: Problem) -> Answer:
        """See :meth:`Method.fill`."""
        spelling = problem.alignment.donor.spelling
        members: dict[str | None, list[int]] = {}
        for place, number in enumerate(problem.ids):
            members.setdefault(self._kind(spelling[number] or b""), []).append(place)
        answers = []
        members = members or {None: []}
        for kind, places in members.items():
            method = self.rest if kind is None else self.kinds[kind]
            asked = replace(problem, ids=[problem.ids[place] for place in places])
            answers.append(Answer.of(method.fill(asked), problem.alignment.base_rows))
        return joined(answers, list(members.values()), problem)

    def _kind(self, spelling: bytes) -> str | None:
        return next((kind for kind in self.kinds if KINDS[kind](spelling)), None)
