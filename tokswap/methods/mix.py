"""A missing row is a weighted sum of what several methods make of it."""

import math
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, field_validator

from tokswap.methods.answer import Answer, weighted
from tokswap.methods.asked import Asked
from tokswap.methods.base import Method, Problem
from tokswap.methods.composite import Composite
from tokswap.methods.cost import Cost, Sizes, together


class Share(Asked):
    """A method, and how much of it."""

    weight: float = Field(
        default=1.0, allow_inf_nan=False, strict=False, description="its share of the sum"
    )


class Mix(Composite):
    """Several methods at once: every row is the sum of theirs, each times its share.

        new  =  Σ w_i new_i / Σ w_i

    Where all parts combine base rows the mix does too, for its weights are sums of theirs. A share
    may be negative, which goes away from that method.
    """

    summary: ClassVar[str] = "the weighted sum of what several methods make"
    paper: ClassVar[str] = "as TokenAdapt (arXiv 2505.09738) adds its local and global estimate"

    of: list[Share] = Field(
        default_factory=lambda: [Share(method="omp"), Share(method="pieces")],
        description="the methods, each a name or `{method, weight, parameters}`",
    )

    @field_validator("of")
    @classmethod
    def _has_a_sum(cls, said: list[Share]) -> list[Share]:
        if not said:
            raise ValueError("give at least one method")
        total = sum(share.weight for share in said)
        if abs(total) < 1e-6 * max(abs(share.weight) for share in said) or total == 0:
            raise ValueError("the weights add up to 0; give weights with another sum")
        return said

    @property
    def shares(self) -> list[float]:
        """What each method counts; they add up to 1."""
        total = math.fsum(share.weight for share in self.of)
        return [share.weight / total for share in self.of]

    @property
    def parts(self) -> list[Method]:
        """See :attr:`Composite.parts`."""
        return [share.made for share in self.of]

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        cost = together([part.cost(sizes) for part in self.parts])
        # What is added to rows that are held is in them.
        return replace(cost, weights=0) if cost.dense else cost

    def fill(self, problem: Problem) -> Answer:
        """See :meth:`Method.fill`."""
        base_rows = problem.alignment.base_rows
        answers = []
        for part in self.parts:
            # Every part draws what it would draw alone.
            generator = problem.generator.clone_state()
            filled = part.fill(replace(problem, generator=generator))
            answers.append(Answer.of(filled, base_rows))
        return weighted(answers, self.shares, problem)

    def __str__(self) -> str:
        """Say the shares, by which comparisons tell mixtures apart."""
        parts = zip(self.shares, self.of, strict=True)
        return " + ".join(f"{share:.3g} {part.method}" for share, part in parts)
