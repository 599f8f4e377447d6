"""The base that a hypernetwork learns through: frozen, and run with any tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokswap.checkpoint.layout import Layout
from tokswap.checkpoint.source import Checkpoint


@dataclass(frozen=True, eq=False)
class FrozenBase:
    """A base whose tables are given to it anew at each call.

    Attributes:
        checkpoint: What it was loaded from.
        layout: Where it keeps its vocabulary.
        model: The model, frozen, in evaluation mode.
        source: (V, n_in) float32: a row for each id of the tokenizer, the head's beside the
            embedding's where the base has two tables.
        rows: How many of them the base has; ids behind have zeros.
        bias: (V,) float32, what the head adds for each id; None where it adds nothing.
        before: Ids that stand before each text; at most one.
        behind: Ids that stand behind each text.
        mask: The id that stands for a gap, in a base that fills gaps; None in one that goes on.
        names: By role, the model's own names of its tables, and ``bias`` of the head.
        first: The number of the first position, where positions are counted from the padding's id
            and the model would take what has that id now for padding; None elsewhere.
        limit: Positions that it knows, or None.
    """

    checkpoint: Checkpoint
    layout: Layout
    model: nn.Module
    source: Tensor
    rows: int
    bias: Tensor | None
    before: tuple[int, ...]
    behind: tuple[int, ...]
    mask: int | None
    names: Mapping[str, str]
    first: int | None
    limit: int | None

    @property
    def tied(self) -> bool:
        """Whether one table serves both roles."""
        return self.layout.tied

    @property
    def width(self) -> int:
        """d, the width of the tables."""
        return self.source.shape[1] // (1 if self.tied else 2)

    @property
    def special(self) -> list[int]:
        """Base ids of the tokens that stand around texts, whose rows are the base's own."""
        gap = () if self.mask is None else (self.mask,)
        return list(dict.fromkeys([*self.before, *self.behind, *gap]))

    @property
    def tables(self) -> list[Tensor]:
        """The base's own tables, of V rows, in the order of ``names``."""
        width = self.width
        parts = [self.source] if self.tied else [self.source[:, :width], self.source[:, width:]]
        return parts if self.bias is None else [*parts, self.bias]

    def own(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Take the base's own rows of some tokens, (N, d) of the embedding and of the head."""
        rows = self.source.index_select(0, ids)
        return (rows, None) if self.tied else (rows[:, : self.width], rows[:, self.width :])

    def logits(
        self,
        ids: Tensor,
        inputs: Tensor,
        outputs: Tensor | None,
        bias: Tensor | None,
        there: Tensor,
    ) -> Tensor:
        """Run the base with other tables.

        Args:
            ids: (B, P) int64 ids into them.
            inputs: (K, d) the embedding; of a tied base the head too.
            outputs: (K, d) the head; None for a tied base.
            bias: (K,) of the head; None for zeros where the base has one.
            there: (B, P) bool, where text stands; only a base that fills gaps is told.

        Returns:
            (B, P, K).
        """
        tables = {"input": inputs}
        if outputs is not None:
            tables["output"] = outputs
        if "bias" in self.names:
            tables["bias"] = inputs.new_zeros(len(inputs)) if bias is None else bias
        said: dict[str, Any] = {"input_ids": ids}
        if self.mask is None:
            said["use_cache"] = False
        else:
            said["attention_mask"] = there.long()
        if self.first is not None:
            counted = torch.arange(ids.shape[1], device=ids.device) + self.first
            said["position_ids"] = torch.where(there, counted, self.first - 1)
        named = {
            name: tables[role].to(self.model.get_parameter(name).dtype)
            for role, name in self.names.items()
        }
        called = torch.func.functional_call(self.model, named, (), said)
        return called.logits  # type: ignore[no-any-return]

    def plain_logits(self, ids: Tensor) -> Tensor:
        """Run the base as it is, (B, P, S), without gradients."""
        with torch.no_grad():
            return self.model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]
