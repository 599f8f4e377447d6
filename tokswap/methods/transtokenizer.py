"""A missing row is made of the base's tokens that write, or translate, the same text."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.methods.anchors import Outliers, fit_base_rows
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes
from tokswap.methods.learned import check_learning, learned_from
from tokswap.methods.matched import tell_left
from tokswap.methods.pieces import Pieces
from tokswap.settings import Names

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows
    from tokswap.vocabulary.shared_text import Counts


class TransTokenizer(Method):
    """Trans-Tokenization: the base's tokens count by how often they stand for the missing one.

        new  =  Σ_s c(s, t) b_s / Σ_s c(s, t)

    **From one text**, which is the default: it is cut by both tokenizers, and where the missing
    token t occurs, c(s, t) grows by the share of t's bytes that the base's token s writes. So the
    pieces are those of the token in its places, where ``pieces`` has those of the token alone.

    **From a translation**: ``text`` is in the base's language, ``donor_text`` has the same lines in
    the donor's, and c(s, t) is how often s and t are expected to be translations of each other, by
    a model of word alignment that is fitted to the pairs of lines (IBM's first, on tokens). Tokens
    of digits, punctuation and spaces alone are filled by their pieces then.

    The paper aligns words of translations by an external program, and gives half of a count to
    tokens at like places in their words and half to all of them; bytes tell it here.

    A token that occurs n times has ``smoothing`` / (n + ``smoothing``) of its weight from the mean
    of its pieces, and one that occurs less than ``minimum`` times all of it.
    """

    summary: ClassVar[str] = "the base's tokens that write the same text, by counts"
    paper: ClassVar[str] = "Trans-Tokenization (Remy et al., COLM 2024, arXiv 2408.04303)"

    text: Names = Field(
        default_factory=list,
        description="text files to count in; without any, the documentation of Python's library",
    )
    donor_text: Names = Field(
        default_factory=list,
        description="the same text, line by line, in the language of the donor",
    )
    k: int = Field(default=32, gt=0, description="base tokens of a row, the most counted ones")
    minimum: float = Field(
        default=1.0,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="tokens that occur less often are filled by their pieces",
    )
    smoothing: float = Field(
        default=1.0,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="occurrences that the mean of the pieces stands for",
    )
    outliers: Outliers = 4.0

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        # What a text will say is not known; most tokens have few pieces that are not their own.
        return Cost(weights=sizes.pieces + 2 * sizes.missing)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        return learned_from([*self.text, *self.donor_text], documentation=not self.text)

    def check(self, sizes: Sizes) -> None:  # noqa: ARG002 - the files do not depend on them
        """See :meth:`Method.check`.

        Raises:
            MethodError: If a file is missing or empty, or there is nothing that is translated.
        """
        check_learning([*self.text, *self.donor_text], "transtokenizer", trained=False)
        if self.donor_text and not self.text:
            raise MethodError(
                "transtokenizer was given donor_text without text, which it translates; give "
                "method.text in the base's language too"
            )

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there is no text, or texts that should be are not of the same lines.
        """
        from tokswap.solvers.sparse import SparseRows

        pieces = Pieces().fill(problem)
        counts = self._count(problem)
        sources = fit_base_rows(problem, self.outliers)
        rows, weights, left = [], [], 0
        for place, number in enumerate(problem.ids):
            mixed: dict[int, float] = {}
            occurred, found = counts.of(number)
            found = _largest({b: c for b, c in found.items() if sources[b]}, self.k)
            total = sum(found.values())
            if occurred >= self.minimum and total > 0:
                prior = self.smoothing / (occurred + self.smoothing)
                mixed = {b: (1 - prior) * c / total for b, c in found.items()}
            else:
                prior = 1.0
                left += 1
            for column, weight in pieces.row(place) if prior else ():
                mixed[column] = mixed.get(column, 0.0) + prior * weight
            rows.append(list(mixed))
            weights.append(list(mixed.values()))
        tell_left(problem, left, "transtokenizer")
        return SparseRows.from_lists(rows, weights, problem.columns)

    def _count(self, problem: Problem) -> "Counts":
        from tokswap.methods.translation import count_translated
        from tokswap.training_text import training_documents
        from tokswap.translated_text import translated_lines
        from tokswap.vocabulary.shared_text import count_shared

        name, label = "transtokenizer", f"transtokenizer, counting for {problem.purpose}"
        if not self.donor_text:
            documents = training_documents(self.text, method=name)
            return count_shared(problem.alignment, documents, label=label)
        pairs = translated_lines(self.text, self.donor_text, method=name)
        return count_translated(problem.alignment, pairs, label=label)


def _largest(counts: Mapping[int, float], k: int) -> dict[int, float]:
    """Keep the k largest counts, of equal ones those of the lowest ids."""
    kept: Iterable[tuple[int, float]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(list(kept)[:k])
