"""WECHSEL: a missing row is an average of the base's tokens that mean nearly the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from tokswap.bilingual import (
    align_vectors,
    known_pairs,
    read_dictionary,
    token_vectors,
    words_of,
)
from tokswap.errors import MethodError
from tokswap.methods.anchors import Outliers, fit_base_rows
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import BLOCKS, ROWS, Cost, Sizes
from tokswap.methods.learned import (
    Dimension,
    Epochs,
    MinimumCount,
    check_learning,
    learned_from,
)
from tokswap.methods.matched import with_pieces
from tokswap.methods.token_vectors import BatchSize, Pooling, Prefix, encoder_source
from tokswap.progress import bar
from tokswap.settings import Names
from tokswap.static_vectors import StaticVectors, Training, train
from tokswap.training_text import MAX_BYTES, training_documents
from tokswap.vector_files import read_vectors
from tokswap.vocabulary.align import Ids
from tokswap.vocabulary.spelled import plain_texts

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.encoders import Encoder
    from tokswap.solvers.sparse import SparseRows


@dataclass(frozen=True, eq=False)
class Described:
    """Tokens that have a vector, in one space for both vocabularies.

    Attributes:
        base_ids: (n,) base ids.
        base: (n, width) their vectors.
        places: (P,) places among the ids that are asked for.
        donor: (P, width) their vectors.
    """

    base_ids: Ids
    base: "Tensor"
    places: Ids
    donor: "Tensor"


class Wechsel(Method):
    """Weights by the softmax of cosines with the k nearest tokens of the base, in word vectors.

        new  =  Σ w_i b_i        w ~ exp(cos(u, u_i) / temperature) over the k nearest

    A token's vector u comes from static vectors of words: by its character n-grams where they have
    such (fastText), else as the mean of the words that contain it. Vectors of two languages are
    turned into one space by the pairs of a dictionary (orthogonal Procrustes). Without another word
    both are one language, whose vectors are trained on a text. An ``encoder`` that knows both
    languages needs neither.
    Tokens without a vector are filled by the mean of their pieces, where the paper draws a row.
    """

    summary: ClassVar[str] = "an average of the base's tokens nearest in aligned word vectors"
    paper: ClassVar[str] = "WECHSEL (Minixhofer et al., NAACL 2022, arXiv 2112.06598)"

    k: int = Field(default=10, gt=0, description="neighbours of each missing token")
    temperature: float = Field(
        default=0.1,
        gt=0.0,
        allow_inf_nan=False,
        strict=False,
        description="of the softmax: the higher, the more alike the weights",
    )
    base_vectors: str | None = Field(
        default=None,
        description="word vectors of the base's language (.vec, or fastText's .bin); without "
        "them, they are learned from a text",
    )
    donor_vectors: str | None = Field(
        default=None, description="word vectors of the donor's language"
    )
    dictionary: str | None = Field(
        default=None,
        description="pairs of words to align two languages by, the base's first; without it, "
        "equal words are pairs",
    )
    text: Names = Field(
        default_factory=list,
        description="text files to learn from; without any, the documentation of Python's library",
    )
    base_text: Names = Field(
        default_factory=list,
        description="text files in the base's language, where it is another one",
    )
    encoder: str | None = Field(
        default=None,
        description="take the vectors of a text encoder that knows both languages instead",
    )
    encoder_pooling: Pooling = None
    encoder_prefix: Prefix = None
    batch_size: BatchSize = 64
    dimension: Dimension = 100
    epochs: Epochs = 3
    minimum_count: MinimumCount = 10
    outliers: Outliers = 4.0

    @model_validator(mode="after")
    def _one_source(self) -> "Wechsel":
        two = bool(self.base_text or self.base_vectors or self.donor_vectors)
        if self.encoder and (two or self.text or self.dictionary):
            raise ValueError("an encoder needs no text, vectors or dictionary; leave them out")
        if not self.encoder and (self.encoder_pooling or self.encoder_prefix):
            raise ValueError("encoder_pooling and encoder_prefix are of an encoder; give one")
        if self.dictionary and not two:
            raise ValueError("a dictionary aligns two languages; give base_text or vectors of both")
        if self.base_vectors and self.base_text:
            raise ValueError("base_vectors and base_text are both given; leave one out")
        if self.base_vectors and self.donor_vectors and self.text:
            raise ValueError("vectors of both languages are given; leave text out")
        return self

    @property
    def draws(self) -> bool:
        """See :attr:`Method.draws`."""
        return self.encoder is None and not (self.base_vectors and self.donor_vectors)

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        # The text as words, the vectors of two languages and their n-grams, and of the tokens.
        tokens = len(sizes.alignment.base) + len(sizes.alignment.donor)
        memory = 2 * MAX_BYTES + 8 * self.dimension * 17 * tokens + BLOCKS
        return Cost(weights=self.k * sizes.missing, memory=memory)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        if self.encoder is not None:
            return encoder_source(self._open(self.encoder, "cpu"))
        whole = self.text or (self.donor_vectors and (self.base_text or self.base_vectors))
        return learned_from(self._files, documentation=not whole, package="gensim")

    def check(self, sizes: Sizes) -> None:  # noqa: ARG002 - the files do not depend on them
        """See :meth:`Method.check`.

        Raises:
            MethodError: If a file is missing or empty, or gensim is not installed.
            EncoderError: If the encoder cannot be used.
        """
        check_learning(self._files, "wechsel", trained=self.encoder is None)
        if self.encoder is not None:
            self._open(self.encoder, "cpu")

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If no token of the base has a vector.
        """
        import torch

        found = self._describe(problem)
        if not len(found.base_ids):
            raise MethodError(
                f"wechsel finds no token of {problem.alignment.base.name!r} to compare with, for "
                "none that is fit has a vector; give a longer text with method.text, or vectors of "
                "the base's language"
            )
        solved = self._solve(found, problem)
        base_ids = torch.from_numpy(found.base_ids)
        solved = solved.map_columns(base_ids, problem.columns)
        return with_pieces(problem, torch.from_numpy(found.places), solved, method="wechsel")

    @property
    def _files(self) -> list[str]:
        files = [self.base_vectors, self.donor_vectors, self.dictionary]
        return [*self.text, *self.base_text, *(path for path in files if path)]

    def _describe(self, problem: Problem) -> Described:
        import torch

        alignment = problem.alignment
        fit = fit_base_rows(problem, self.outliers)
        base_ids = alignment.used_base_ids
        base_ids = base_ids[fit[base_ids]]
        if self.encoder is not None:
            return self._encoded(problem, base_ids, self._open(self.encoder, problem.device))
        dictionary = None
        if self.dictionary is not None:  # what may be wrong with a file is told before training
            dictionary = read_dictionary(Path(self.dictionary), method="wechsel")
        base_words, donor_words = self._spaces(problem)
        base, base_known = token_vectors(base_words, alignment.base, base_ids.tolist())
        donor, known = token_vectors(donor_words, alignment.donor, problem.ids)
        turned = torch.from_numpy(donor[known])
        if base_words is not donor_words:
            pairs = known_pairs(base_words, donor_words, dictionary, method="wechsel")
            turned = align_vectors(base_words, donor_words, pairs).apply(turned)
        return Described(
            base_ids=base_ids[base_known],
            base=torch.from_numpy(base[base_known]),
            places=np.flatnonzero(known),
            donor=turned,
        )

    def _spaces(self, problem: Problem) -> tuple[StaticVectors, StaticVectors]:
        """Read or train the word vectors of both languages; one object where they are one."""
        method = "wechsel"
        training = Training(
            dimension=self.dimension,
            epochs=self.epochs,
            minimum_count=self.minimum_count,
            seed=problem.generator.initial_seed(),
        )

        # Files that are given are read first, for what is wrong with one is told at once.
        given = {
            path: read_vectors(Path(path), method=method)
            for path in dict.fromkeys([self.base_vectors, self.donor_vectors])
            if path
        }

        def words(path: str | None, paths: list[str], key: str) -> StaticVectors:
            if path:
                return given[path]
            found = words_of(training_documents(paths, method=method))
            label = "wechsel, fastText vectors"
            return train(found, training, method=method, label=label, key=key)

        key = "base_text" if self.base_text else "text"
        base = words(self.base_vectors, self.base_text or self.text, key)
        if self.base_vectors == self.donor_vectors and not self.base_text:
            return base, base
        return base, words(self.donor_vectors, self.text, "text")

    def _open(self, encoder: str, device: str) -> "Encoder":
        from tokswap.encoders import open_encoder

        return open_encoder(
            encoder,
            pooling=self.encoder_pooling,
            prefix=self.encoder_prefix,
            device=device,
            batch_size=self.batch_size,
        )

    def _encoded(self, problem: Problem, base_ids: Ids, encoder: "Encoder") -> Described:
        """Take an encoder's vectors of the tokens' texts."""
        import torch

        from tokswap.encoders import embed

        texts = plain_texts(problem.alignment.base, base_ids.tolist())
        texts += plain_texts(problem.alignment.donor, problem.ids)
        there = torch.tensor([text is not None for text in texts], dtype=torch.bool)
        found = embed(encoder, [text for text in texts if text is not None])
        # A text in which the encoder finds no token of its own has zeros.
        told = found.any(dim=1)
        there[there.clone()] = told
        of_base = there[: len(base_ids)].numpy()
        base, donor = torch.split(found[told], [of_base.sum(), there.sum() - of_base.sum()])
        return Described(
            base_ids=base_ids[of_base],
            base=base,
            places=np.flatnonzero(there[len(base_ids) :].numpy()),
            donor=donor,
        )

    def _solve(self, found: Described, problem: Problem) -> "SparseRows":
        """Weigh the base's tokens (n) for each donor token with a vector: (P, n)."""
        from tokswap.solvers.neighbours import nearest, weigh
        from tokswap.solvers.sparse import SparseRows

        device = "cpu" if problem.device.startswith("mps") else problem.device
        atoms = found.base.to(device)
        parts = []
        with bar(f"wechsel, {problem.role} {problem.purpose}", len(found.donor)) as advance:
            for start in range(0, max(len(found.donor), 1), ROWS):
                targets = found.donor[start : start + ROWS].to(device)
                indices, distances = nearest(targets, atoms, self.k)
                weights = weigh(distances, "softmax", temperature=self.temperature)
                parts.append(SparseRows.from_padded(indices, weights, len(atoms)))
                advance(len(targets))
        return SparseRows.concatenate(parts)
