"""One loaded base, measured with the rows of one plan after the other; nothing is written.

The figures are those that ``tokswap transplant`` and ``tokswap eval`` of the written folder give.
Beside them stand two that need no plan: the base on its own cut of the text, and the segmentation
floor, the base on the donor's cut. What lies between the floor and a plan is the rows' doing, what
lies between the base's own figure and the floor is the cut's.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from tokswap.beside import look_beside
from tokswap.checkpoint.files import tokenizer_files
from tokswap.errors import EvaluationError
from tokswap.evaluation.figures import Score, Tally
from tokswap.evaluation.load import load_for_scoring, loading_obstacle
from tokswap.evaluation.measure import GROUPS, groups_of, lengths_of, local_folder, start_of
from tokswap.evaluation.reading import plain_reading, spelt_reading
from tokswap.evaluation.score import tally_model
from tokswap.evaluation.swap import Swap
from tokswap.evaluation.texts import Text
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.recipe import make_recipe
from tokswap.tokenizer_folder import settle, write_tokenizer
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary


@dataclass(frozen=True, eq=False)
class CutScore:
    """The figures of a model on texts, and what each token costs.

    Attributes:
        score: The figures; with the groups ``shared`` and ``new`` where the donor cuts the text.
        counts: (T,) int64, how often each of the donor's tokens was scored; (S,) of the base's
            where the base cuts the text.
        nats: (T,) or (S,) float64, what they cost together.
    """

    score: Score
    counts: Tensor
    nats: Tensor


class SwappedModel:
    """A loaded base whose vocabulary rows are exchanged in memory."""

    def __init__(self, pair: Pair, model: nn.Module, tokenizer: Tokenizer) -> None:
        self._pair = pair
        self._model = model
        self._tokenizer = tokenizer
        # For scoring no template matters, nor what a model does with pictures.
        asked = {"base_model": pair.base.name, "donor": pair.donor.name}
        recipe = make_recipe({**asked, "chat_template": "none", "text_only": True})
        self._beside = look_beside(pair, recipe)
        self._swap = Swap(model, pair, self._beside)

    @classmethod
    def load(cls, pair: Pair, *, device: str = "cpu", dtype: str | None = None) -> "SwappedModel":
        """Load the base of a pair.

        Args:
            pair: The base and the donor.
            device: Where the model goes, in the words of torch.
            dtype: Name of a torch dtype to compute in; float32 on the CPU, as stored elsewhere,
                without it.

        Raises:
            EvaluationError: If the base predicts no next token, or cannot be loaded here.
            TokswapError: If a file of it cannot be had.
        """
        if not pair.layout.causal:
            kind = pair.layout.model_class or "draft model"
            raise EvaluationError(
                f"{pair.base.name} is a {kind}, which predicts no next token by itself, so it "
                "cannot be measured; give a causal language model"
            )
        note(f"load {pair.base.name}")
        folder = local_folder(pair.base)
        if pair.base.quantisation is not None and (reason := loading_obstacle(folder)):
            raise EvaluationError(
                f"{pair.base.name} is quantised and cannot be loaded here to be measured "
                f"({reason}); give the plain checkpoint"
            )
        return cls(pair, *load_for_scoring(folder, device=device, dtype=dtype))

    @property
    def base(self) -> nn.Module:
        """The loaded base, with its own rows."""
        return self._model

    def model(self, plan: Plan) -> nn.Module:
        """Give the base a plan's rows, in place of those of the plan before.

        Raises:
            EvaluationError: If a model of the new size cannot be built.
        """
        return self._swap.model(plan)

    @property
    def vocabulary(self) -> Vocabulary:
        """The new vocabulary, as it would be read from a written folder."""
        return self._vocabulary

    def own(self, texts: Sequence[Text], *, window: int, stride: int) -> CutScore:
        """Measure the base on its own cut of the text.

        Raises:
            EvaluationError: If it cannot be measured.
        """
        vocabulary, rows = self._pair.base.vocabulary, self._pair.alignment.base_rows
        lengths = lengths_of(vocabulary)
        reading = plain_reading(min(rows, len(vocabulary)), vocabulary.roles.get("unk"), lengths)
        score, tally = tally_model(
            self._model,
            self._tokenizer,
            texts,
            reading,
            name=self._pair.base.name,
            start_id=start_of(vocabulary),
            window=window,
            stride=stride,
        )
        return CutScore(score, *tally.by_token(rows))

    def floor(self, texts: Sequence[Text], *, window: int, stride: int) -> CutScore:
        """Measure the base's own rows on the donor's cut of the text: the segmentation floor.

        A shared token is the base's token, a new one is spelt in the base's pieces, and costs what
        they cost together. The window and the stride are counted in what the base reads. What the
        base cannot spell counts as unknown (:func:`~tokswap.evaluation.reading.spelt_reading`).

        Raises:
            EvaluationError: If it cannot be measured.
        """
        pair, vocabulary = self._pair, self._vocabulary
        reading = spelt_reading(pair.alignment, lengths_of(vocabulary), vocabulary.roles.get("unk"))
        score, tally = tally_model(
            self._model,
            pair.donor.vocabulary.backend,
            texts,
            reading,
            name=f"{pair.base.name} (segmentation floor)",
            start_id=start_of(pair.base.vocabulary),
            window=window,
            stride=stride,
        )
        return self._grouped(score, tally, torch.from_numpy(pair.alignment.kind))

    def swapped(
        self,
        plan: Plan,
        texts: Sequence[Text],
        *,
        window: int,
        stride: int,
        name: str | None = None,
    ) -> CutScore:
        """Measure the base with a plan's rows, on the donor's cut of the text.

        Args:
            plan: A plan of this pair.
            texts: What to measure on.
            window: Tokens that the model sees at once.
            stride: Tokens by which the window moves.
            name: What the score and messages call the model.

        Raises:
            EvaluationError: If the plan is not of this pair, or the model cannot be measured.
            OutputError: If the type of the base's tables cannot hold the rows.
        """
        alignment, vocabulary = self._pair.alignment, self._vocabulary
        if (plan.rows, plan.base_rows) != (alignment.rows, alignment.base_rows):
            raise EvaluationError(
                f"the plan makes {plan.rows} rows of {plan.base_rows}, and this pair has "
                f"{alignment.rows} and {alignment.base_rows}; give a plan of this pair"
            )
        score, tally = tally_model(
            self._swap.model(plan),
            self._pair.donor.vocabulary.backend,
            texts,
            plain_reading(len(vocabulary), vocabulary.roles.get("unk"), lengths_of(vocabulary)),
            name=name or f"{self._pair.base.name} with {self._pair.donor.name}'s vocabulary",
            start_id=start_of(vocabulary),
            window=window,
            stride=stride,
        )
        return self._grouped(score, tally, plan.kind)

    def _grouped(self, score: Score, tally: Tally, kind: Tensor) -> CutScore:
        groups = tally.groups(GROUPS, groups_of(kind))
        return CutScore(replace(score, groups=groups), *tally.by_token(self._pair.alignment.rows))

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """The new vocabulary as it is read from a written folder, whose config may tell roles."""
        pair = self._pair
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = tokenizer_files(pair.donor.files)
            write_tokenizer(folder, files, settle(pair).settings)
            written = {path.name: path for path in folder.iterdir()}
            config = self._beside.settings["config.json"]
            return load_vocabulary(written, name=pair.donor.name, config=config)
