"""Different methods for different kinds of tokens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from tokswap.methods.answer import Answer, joined
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes, together
from tokswap.vocabulary.kinds import KINDS


class ByKind(Method):
    """A method for the tokens of each kind, and one for the rest.

    A token of several kinds is the first one's of them. It is what `per_kind:` in a recipe makes.
    """

    summary: ClassVar[str] = "a method of its own for each kind of token"
    paper: ClassVar[str] = "none"

    rest: Method = Field(description="the method of all other tokens")
    kinds: Mapping[str, Method] = Field(description="methods by kind of token")

    @property
    def needs_donor(self) -> bool:
        """See :attr:`Method.needs_donor`."""
        return any(method.needs_donor for method in self._all())

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return any(method.needs_base for method in self._all())

    @property
    def draws(self) -> bool:
        """See :attr:`Method.draws`."""
        return any(method.draws for method in self._all())

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return any(method.differs_by_role for method in self._all())

    @property
    def outliers(self) -> float | None:
        """The setting of the first method that has it."""
        found = (getattr(method, "outliers", None) for method in self._all())
        return next((deviations for deviations in found if deviations is not None), None)

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`; every method is taken to fill all tokens, which is too much."""
        return together([method.cost(sizes) for method in self._all()])

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        return {name: said for method in self._all() for name, said in method.sources().items()}

    def check(self, sizes: Sizes) -> None:
        """See :meth:`Method.check`."""
        for method in self._all():
            method.check(sizes)

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

    def _all(self) -> list[Method]:
        return [*self.kinds.values(), self.rest]
