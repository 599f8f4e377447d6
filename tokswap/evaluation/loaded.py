"""A loaded model, measured on its own cut of texts or on another's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor, nn

from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.source import Checkpoint
from tokswap.evaluation.cut_cost import Kinds, by_kind, scored_pieces
from tokswap.evaluation.figures import Score, Tally
from tokswap.evaluation.load import load_for_scoring
from tokswap.evaluation.losses import Losses
from tokswap.evaluation.reading import plain_reading, spelt_reading
from tokswap.evaluation.score import tally_model
from tokswap.evaluation.texts import Text
from tokswap.evaluation.tokens import GROUPS, groups_of, lengths_of, start_of
from tokswap.progress import note
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.tokens import Vocabulary


@dataclass(frozen=True, eq=False)
class CutScore:
    """The figures of a model on texts, and what each token and each kind of text costs.

    Attributes:
        score: The figures; with the groups ``shared`` and ``new`` where they are told apart.
        counts: (T,) int64, how often each token of the vocabulary that cuts the text was scored.
        nats: (T,) float64, what they cost together.
        kinds: What each kind of the text's bytes costs.
    """

    score: Score
    counts: Tensor
    nats: Tensor
    kinds: Kinds


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A loaded model, ready to be measured on any cut of a text.

    Attributes:
        name: What scores and messages call it.
        vocabulary: The vocabulary that it has rows for.
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer, without truncation and padding.
    """

    name: str
    vocabulary: Vocabulary
    model: nn.Module
    tokenizer: Tokenizer

    @property
    def rows(self) -> int:
        """S, rows of its embedding."""
        return Losses(self.model, self.name).rows

    def own(
        self, texts: Sequence[Text], *, window: int, stride: int, kind: Tensor | None = None
    ) -> CutScore:
        """Measure it on its own cut of the text.

        Args:
            texts: What to measure on.
            window: Tokens that the model sees at once.
            stride: Tokens by which the window moves.
            kind: (T,) what each row is, to tell shared and new tokens apart.

        Raises:
            EvaluationError: If it cannot be measured.
        """
        vocabulary, rows = self.vocabulary, self.rows
        lengths = lengths_of(vocabulary)
        score, tally = tally_model(
            self.model,
            self.tokenizer,
            texts,
            plain_reading(min(rows, len(vocabulary)), vocabulary.roles.get("unk"), lengths),
            name=self.name,
            start_id=start_of(vocabulary),
            window=window,
            stride=stride,
        )
        return self._summed(score, tally, vocabulary, rows, kind)

    def floor(
        self,
        alignment: Alignment,
        cut: Vocabulary,
        texts: Sequence[Text],
        *,
        window: int,
        stride: int,
        kind: Tensor,
    ) -> CutScore:
        """Measure its own rows on the donor's cut of the text: the segmentation floor.

        A shared token is the base's token, a new one is spelt in the base's pieces, and costs what
        they cost together. The window and the stride are counted in what the base reads. What the
        base cannot spell counts as unknown (:func:`~tokswap.evaluation.reading.spelt_reading`).

        Args:
            alignment: The donor's vocabulary against the base's.
            cut: The donor's vocabulary as a written folder has it.
            texts: What to measure on.
            window: Tokens that the model sees at once.
            stride: Tokens by which the window moves.
            kind: (T,) what each row of the new vocabulary is.

        Raises:
            EvaluationError: If it cannot be measured.
        """
        score, tally = tally_model(
            self.model,
            alignment.donor.backend,
            texts,
            spelt_reading(alignment, lengths_of(cut), cut.roles.get("unk")),
            name=f"{self.name} (segmentation floor)",
            start_id=start_of(self.vocabulary),
            window=window,
            stride=stride,
        )
        return self._summed(score, tally, cut, alignment.rows, kind)

    def _summed(
        self, score: Score, tally: Tally, cut: Vocabulary, rows: int, kind: Tensor | None
    ) -> CutScore:
        if kind is not None:
            score = replace(score, groups=tally.groups(GROUPS, groups_of(kind)))
        kinds = by_kind(scored_pieces(tally, self.vocabulary, cut), score.bytes)
        return CutScore(score, *tally.by_token(rows), kinds)


def load_model(
    checkpoint: Checkpoint, *, device: str = "cpu", dtype: str | None = None
) -> LoadedModel:
    """Load a model that is to be measured several times; see :func:`load_for_scoring`.

    Raises:
        EvaluationError: If it does not load as a causal language model.
        TokswapError: If a file of it cannot be had.
    """
    note(f"load {checkpoint.name}")
    vocabulary = checkpoint.vocabulary
    loaded = load_for_scoring(local_folder(checkpoint), device=device, dtype=dtype)
    return LoadedModel(checkpoint.name, vocabulary, *loaded)


def local_folder(checkpoint: Checkpoint) -> Path:
    """Fetch all that is needed to load a model, and return the folder that holds it.

    Raises:
        TokswapError: If something cannot be fetched.
    """
    tokenizer_files(checkpoint.files)
    checkpoint.files.fetch(
        [*checkpoint.shards, *(checkpoint.files.names & {"generation_config.json"})]
    )
    return checkpoint.files.path("config.json").parent
