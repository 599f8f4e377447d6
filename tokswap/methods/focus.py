"""FOCUS: a missing row is an average of the anchors that are used alike in a text."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.anchors import Outliers, check_anchor_count, fit_anchors
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import BLOCKS, Cost, Sizes
from tokswap.methods.learned import (
    Dimension,
    Epochs,
    MinimumCount,
    check_learning,
    learned_from,
)
from tokswap.methods.matched import with_pieces
from tokswap.progress import bar
from tokswap.settings import Names
from tokswap.static_vectors import StaticVectors, Training, train
from tokswap.training_text import MAX_BYTES, training_documents
from tokswap.vocabulary.spelled import cut_into_words, spell_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.solvers.sparse import SparseRows

SLOTS = 128
"""Anchors that have a weight in a row, at most as a rule; half as many are usual."""


class Focus(Method):
    """Weights by the sparsemax of cosines in fastText vectors of the donor's tokens.

        new  =  Σ w_i b_i        w = sparsemax(cos(f, f_1), …, cos(f, f_N)) over the anchors

    The vectors f are trained on a text that the donor's tokenizer has cut, each token being a word
    (CBOW over words and their character n-grams). Weights are at least 0 and add up to 1; those of
    anchors that are far are 0. Tokens that the text has too seldom are filled by the mean of their
    pieces, where the published code draws a random row.
    """

    summary: ClassVar[str] = "an average of the anchors that a text uses alike, by fastText vectors"
    paper: ClassVar[str] = "FOCUS (Dobler and de Melo, EMNLP 2023, arXiv 2305.14481)"

    text: Names = Field(
        default_factory=list,
        description="text files to learn from; without any, the documentation of Python's library",
    )
    dimension: Dimension = 100
    epochs: Epochs = 3
    minimum_count: MinimumCount = 10
    unseen: bool = Field(
        default=False,
        description="give tokens that the text has too seldom a vector by their character n-grams",
    )
    temperature: float = Field(
        default=1.0,
        gt=0.0,
        allow_inf_nan=False,
        strict=False,
        description="divides the cosines: the lower, the fewer anchors have a weight",
    )
    outliers: Outliers = 4.0

    @property
    def draws(self) -> bool:
        """See :attr:`Method.draws`."""
        return True

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        slots = min(SLOTS, max(sizes.anchors, 1))
        # The text as words, the vectors twice, and the scores.
        vectors = 8 * self.dimension * (17 * len(sizes.alignment.donor) + sizes.missing)
        return Cost(weights=slots * sizes.missing, memory=2 * MAX_BYTES + vectors + BLOCKS)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        return learned_from(self.text, documentation=not self.text, package="gensim")

    def check(self, sizes: Sizes) -> None:  # noqa: ARG002 - the files do not depend on them
        """See :meth:`Method.check`."""
        check_learning(self.text, "focus")

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there is no anchor, or none has a vector.
        """
        import torch

        anchors = fit_anchors(problem, None, self.outliers)
        donor = problem.alignment.donor
        check_anchor_count("focus", "these settings", 1, len(anchors), donor.name)
        vectors = self._train(problem)
        look_up = vectors.composed if self.unseen else vectors.look_up
        spelled = spell_tokens(donor)
        rows, known = look_up([spelled[number] for number in anchors])
        if not known.any():
            raise MethodError(
                f"focus cannot compare tokens by its text, in which none of {len(anchors)} shared "
                f"tokens occurs {self.minimum_count} times; give a longer text with method.text or "
                "lower method.minimum_count"
            )
        targets, found = look_up([spelled[number] for number in problem.ids])
        solved = self._solve(
            torch.from_numpy(targets[found]), torch.from_numpy(rows[known]), problem
        )
        base_ids = torch.from_numpy(problem.alignment.source[anchors[known]])
        places = torch.from_numpy(found).nonzero()[:, 0]
        solved = solved.map_columns(base_ids, problem.columns)
        return with_pieces(problem, places, solved, method="focus")

    def _train(self, problem: Problem) -> StaticVectors:
        documents = training_documents(self.text, method="focus")
        training = Training(
            dimension=self.dimension,
            epochs=self.epochs,
            minimum_count=self.minimum_count,
            seed=problem.generator.initial_seed(),
        )
        words = cut_into_words(problem.alignment.donor, documents)
        return train(words, training, method="focus", label="focus, fastText vectors")

    def _solve(self, targets: "Tensor", atoms: "Tensor", problem: Problem) -> "SparseRows":
        """Weigh the anchors' vectors (N, E) for each of the targets (P, E): weights (P, N)."""
        from tokswap.solvers.sparse import SparseRows
        from tokswap.solvers.sparsemax import sparsemax_of_cosines

        device = "cpu" if problem.device.startswith("mps") else problem.device
        parts = []
        with bar(f"focus, {problem.role} {problem.purpose}", len(targets)) as advance:
            for indices, weights in sparsemax_of_cosines(
                targets.to(device), atoms.to(device), temperature=self.temperature
            ):
                parts.append(SparseRows.from_padded(indices, weights, len(atoms)))
                advance(len(indices))
        return SparseRows.concatenate(parts)
