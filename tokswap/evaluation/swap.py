"""The loaded base with other vocabulary tensors, which a plan fills: its body is there only once.

The model of the new size is built once, and for each further plan only its tables are written over.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.beside import Beside, write_json
from tokswap.checkpoint.skeleton import Skeleton, config_levels, read_skeleton
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.errors import EvaluationError
from tokswap.evaluation.graft import graft
from tokswap.evaluation.load import quiet
from tokswap.new_tensors import new_blocks
from tokswap.output import with_sizes
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.sizes import new_rows_of


@dataclass(frozen=True, eq=False)
class _Crown:
    """A model that shares the base's body, and the config.json that it is of."""

    config: Mapping[str, Any]
    model: nn.Module
    tables: Mapping[str, Tensor]


class Swap:
    """Gives a loaded base the rows of one plan after the other.

    Args:
        base: The base, which stays as it is.
        pair: The base's checkpoint and the donor.
        beside: What the files beside the weights would say.
    """

    def __init__(self, base: nn.Module, pair: Pair, beside: Beside) -> None:
        self._base = base
        self._pair = pair
        self._beside = beside
        self._crown: _Crown | None = None

    def model(self, plan: Plan) -> nn.Module:
        """Give the base the rows of a plan, in place of those of the plan before.

        Raises:
            EvaluationError: If a model of the new size cannot be built.
        """
        config = with_sizes(self._beside, self._pair, plan).settings["config.json"] or {}
        with torch.inference_mode(False):  # tables made in that mode could not be filled again
            if self._crown is None or self._crown.config != config:
                self._crown = None  # the old tables go before the new ones come
                self._crown = self._built(config, plan)
            for tensor in self._places:
                _fill(self._crown.tables[tensor.name], self._pair, plan, tensor)
        return self._crown.model

    @cached_property
    def _skeleton(self) -> Skeleton:
        return read_skeleton(self._pair.base)

    @cached_property
    def _places(self) -> Mapping[VocabTensor, tuple[str, ...]]:
        """By stored vocabulary tensor, the names in the model that it is loaded under."""
        skeleton = self._skeleton
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
            **dict(self._base.named_parameters(remove_duplicate=False)),
            **dict(self._base.named_buffers(remove_duplicate=False)),
        }

    def _built(self, config: Mapping[str, Any], plan: Plan) -> _Crown:
        """Build a model of the new size around the base's body, with empty tables.

        Raises:
            EvaluationError: If it cannot be built.
        """
        pair, old = self._pair, self._tensors()
        anchor: Tensor = self._base.get_input_embeddings().weight  # type: ignore[operator]
        tables: dict[str, Tensor] = {}
        for tensor, places in self._places.items():
            shape = list(pair.base.info(tensor.name).shape)
            shape[tensor.axis] = new_rows_of(tensor, plan)
            # A quantised head is plain in a written folder, of the type that the model computes in.
            like = anchor if pair.base.parts(tensor.name) else old[places[0]]
            tables[tensor.name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        model = graft(
            self._base,
            _empty_model(config, pair.base.name),
            {name: tables[t.name] for t, places in self._places.items() for name in places},
            {name for slot in self._skeleton.vocabulary for name in slot.names},
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
