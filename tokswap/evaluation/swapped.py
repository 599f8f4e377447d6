"""One loaded base, measured with the rows of one plan after the other; nothing is written.

The figures are those that ``tokswap transplant`` and ``tokswap eval`` of the written folder give.
Beside them stand two that need no plan: the base on its own cut of the text, and the segmentation
floor, the base on the donor's cut. What lies between the floor and a plan is the rows' doing, what
lies between the base's own figure and the floor is the cut's.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from tokswap.beside import Beside, look_beside, write_json
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.skeleton import config_levels, read_skeleton
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import EvaluationError
from tokswap.evaluation.figures import Score, Tally
from tokswap.evaluation.graft import graft
from tokswap.evaluation.load import load_for_scoring, loading_obstacle, quiet
from tokswap.evaluation.measure import GROUPS, groups_of, lengths_of, local_folder, start_of
from tokswap.evaluation.reading import plain_reading, spelt_reading
from tokswap.evaluation.score import tally_model
from tokswap.evaluation.texts import Text
from tokswap.new_tensors import new_blocks
from tokswap.output import with_sizes
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.progress import note
from tokswap.recipe import make_recipe
from tokswap.sizes import new_rows_of
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


@dataclass(frozen=True, eq=False)
class _Crown:
    """A model that shares the base's body, and the config.json that it is of."""

    config: Mapping[str, Any]
    model: nn.Module
    tables: Mapping[str, Tensor]


class SwappedModel:
    """A loaded base whose vocabulary rows are exchanged in memory."""

    def __init__(self, pair: Pair, model: nn.Module, tokenizer: Tokenizer) -> None:
        self._pair = pair
        self._model = model
        self._tokenizer = tokenizer
        self._crown: _Crown | None = None
        # For scoring no template matters, nor what a model does with pictures.
        asked = {"base_model": pair.base.name, "donor": pair.donor.name}
        recipe = make_recipe({**asked, "chat_template": "none", "text_only": True})
        self._beside: Beside = look_beside(pair, recipe)

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
            self._with(plan),
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

    @cached_property
    def _places(self) -> Mapping[VocabTensor, tuple[str, ...]]:
        """By stored vocabulary tensor, the names in the model that it is loaded under."""
        skeleton = read_skeleton(self._pair.base)
        where = {name: id(tensor) for name, tensor in self._tensors().items()}
        found: dict[VocabTensor, tuple[str, ...]] = {}
        taken: set[str] = set()
        for tensor in self._pair.layout.tensors:
            name = skeleton.module_names[tensor.name]
            slot = skeleton.slot_of(name)
            if name not in skeleton.shapes or slot is None:
                continue  # stored for other engines
            tied = [n for n in slot.names if n in where and where[n] == where.get(name)]
            places = tuple(n for n in dict.fromkeys([name, *tied]) if n not in taken)
            taken |= set(places)
            if places:
                found[tensor] = places
        return found

    def _tensors(self) -> dict[str, Tensor]:
        """The loaded base's tensors by name; a shared one has several."""
        return {
            **dict(self._model.named_parameters(remove_duplicate=False)),
            **dict(self._model.named_buffers(remove_duplicate=False)),
        }

    def _with(self, plan: Plan) -> nn.Module:
        """Give the base the rows of a plan.

        Raises:
            EvaluationError: If a model of the new size cannot be built.
        """
        config = with_sizes(self._beside, self._pair, plan).settings["config.json"] or {}
        if self._crown is None or self._crown.config != config:
            self._crown = None  # the old tables go before the new ones come
            self._crown = self._built(config, plan)
        for tensor in self._places:
            _fill(self._crown.tables[tensor.name], self._pair, plan, tensor)
        return self._crown.model

    def _built(self, config: Mapping[str, Any], plan: Plan) -> _Crown:
        """Build a model of the new size around the base's body, with empty tables.

        Raises:
            EvaluationError: If it cannot be built.
        """
        pair, old = self._pair, self._tensors()
        anchor: Tensor = self._model.get_input_embeddings().weight  # type: ignore[operator]
        tables: dict[str, Tensor] = {}
        for tensor, places in self._places.items():
            shape = list(pair.base.info(tensor.name).shape)
            shape[tensor.axis] = new_rows_of(tensor, plan)
            like = old.get(places[0], anchor)
            # A quantised head is plain in a written folder, of the type that the model computes in.
            like = like if like.is_floating_point() and not pair.base.parts(tensor.name) else anchor
            tables[tensor.name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        model = graft(
            self._model,
            _empty_model(config, pair.base.name),
            {name: tables[t.name] for t, places in self._places.items() for name in places},
        )
        return _Crown(config, model, tables)


def _empty_model(config: Mapping[str, Any], name: str) -> nn.Module:
    """Build the model of a config.json on the meta device, as it is loaded for scoring.

    Raises:
        EvaluationError: If transformers cannot build it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "config.json", dict(config))
            made: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            for _, level in config_levels(made):
                if getattr(level, "quantization_config", None) is not None:
                    del level.quantization_config
            with torch.device("meta"):
                model: nn.Module = AutoModelForCausalLM.from_config(made, trust_remote_code=False)
            return model
    except Exception as error:  # each architecture refuses settings by exceptions of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise EvaluationError(
            f"{name} cannot be built with a vocabulary of the new size ({reason}); write it with "
            "`tokswap transplant` and measure that"
        ) from error


@torch.no_grad()
def _fill(table: Tensor, pair: Pair, plan: Plan, tensor: VocabTensor) -> None:
    """Write new rows over a table, rounded to the type in which they would be stored."""
    if tensor.axis:
        table.copy_(next(iter(new_blocks(pair, plan, tensor))))
        return
    start = 0
    for block in new_blocks(pair, plan, tensor):
        table[start : start + len(block)] = block.to(table.device)
        start += len(block)
