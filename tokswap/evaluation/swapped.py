"""One loaded base, measured with the rows of one plan after the other; nothing is written.

The figures are those that ``tokswap transplant`` and ``tokswap eval`` of the written folder give.
Beside them stand two that need no plan: the base on its own cut of the text, and the segmentation
floor, the base on the donor's cut. What lies between the floor and a plan is the rows' doing, what
lies between the base's own figure and the floor is the cut's.
"""

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from tokswap.beside import look_beside
from tokswap.checkpoint.files import tokenizer_files
from tokswap.errors import EvaluationError
from tokswap.evaluation.load import load_for_scoring, loading_obstacle
from tokswap.evaluation.loaded import CutScore, LoadedModel, local_folder
from tokswap.evaluation.swap import Swap
from tokswap.evaluation.texts import Text
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.recipe import make_recipe
from tokswap.tokenizer_folder import settle, write_tokenizer
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary


class SwappedModel:
    """A loaded base whose vocabulary rows are exchanged in memory."""

    def __init__(self, pair: Pair, model: nn.Module, tokenizer: Tokenizer) -> None:
        self._pair = pair
        self._base = LoadedModel(pair.base.name, pair.base.vocabulary, model, tokenizer)
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
        return self._base.model

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
        return self._base.own(texts, window=window, stride=stride)

    def floor(self, texts: Sequence[Text], *, window: int, stride: int) -> CutScore:
        """Measure the base's own rows on the donor's cut of the text: the segmentation floor.

        See :meth:`tokswap.evaluation.loaded.LoadedModel.floor`.

        Raises:
            EvaluationError: If it cannot be measured.
        """
        alignment = self._pair.alignment
        kind = torch.from_numpy(alignment.kind)
        shown = {"window": window, "stride": stride}
        return self._base.floor(alignment, self._vocabulary, texts, **shown, kind=kind)

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
        alignment = self._pair.alignment
        if (plan.rows, plan.base_rows) != (alignment.rows, alignment.base_rows):
            raise EvaluationError(
                f"the plan makes {plan.rows} rows of {plan.base_rows}, and this pair has "
                f"{alignment.rows} and {alignment.base_rows}; give a plan of this pair"
            )
        swapped = LoadedModel(
            name or f"{self._pair.base.name} with {self._pair.donor.name}'s vocabulary",
            self._vocabulary,
            self._swap.model(plan),
            self._pair.donor.vocabulary.backend,
        )
        return swapped.own(texts, window=window, stride=stride, kind=plan.kind)

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
