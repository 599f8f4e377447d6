"""A loaded model that reads rows of its own making: ids behind its vocabulary, in the same body."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tokswap.errors import EvaluationError
from tokswap.evaluation.losses import Losses
from tokswap.evaluation.prefixes import Split
from tokswap.evaluation.score import BATCH_TOKENS, running

CLOSE = 1e-3
"""How far logits may be apart, next to the largest, that are the same but for rounding."""


class LongerInput:
    """A model whose embedding has more rows behind its own; the head stays as it is.

    The rows are put in place of the embedding's by ``functional_call``, so what the architecture
    does with a row (scales it, adds positions, normalises it) it does with these too.

    Args:
        model: A causal language model in evaluation mode.
        name: What messages call it.

    Attributes:
        rows: S, the embedding's own rows; the first row behind them has this id.

    Raises:
        EvaluationError: If the model looks its tokens up in some other way.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self._model, self._name = model, name
        self._losses = Losses(model, name)
        module: Any = model.get_input_embeddings()  # type: ignore[operator]
        names = [n for n, found in model.named_modules() if found is module]
        if not isinstance(module, nn.Embedding) or not names:
            raise EvaluationError(
                f"{name} looks up its tokens in a {type(module).__name__}, which cannot be given "
                "more rows; give a model with a plain embedding"
            )
        self._place = f"{names[0]}.weight"
        self.rows: int = module.weight.shape[0]
        self._table = module.weight.detach()

    @property
    def dtype(self) -> str:
        """Type that the model computes in, by name."""
        return self._losses.dtype

    @torch.inference_mode()
    def set_rows(self, rows: Tensor) -> None:
        """Put rows behind the embedding's own, in place of those before.

        Args:
            rows: (K, D); they are read by the ids S to S + K - 1.
        """
        if len(self._table) < self.rows + len(rows):
            longer = self._table.new_zeros(self.rows + 2 * len(rows), self._table.shape[1])
            longer[: self.rows] = self._table[: self.rows]
            self._table = longer
        self._table[self.rows : self.rows + len(rows)] = rows.to(self._table)

    @torch.inference_mode()
    def check(self, ids: Sequence[int]) -> None:
        """Check that a row is all that the model has of a token: that its id is nothing to it.

        Args:
            ids: Some tokens of the base.

        Raises:
            EvaluationError: If a token's row, read by another id, is not read as the token is.
        """
        self.set_rows(self._table[torch.tensor(ids[-1:]).to(self._table.device)])
        with running(self._name, 1, len(ids)):
            own = self._logits(torch.tensor([ids]), 1).float()
        cause = None
        try:
            other = self._logits(torch.tensor([[*ids[:-1], self.rows]]), 1).float()
            alike = float((own - other).abs().max()) <= CLOSE * float(own.abs().max())
        except Exception as error:  # of whatever else is looked up by the id
            alike, cause = False, error
        if not alike:
            raise EvaluationError(
                f"{self._name} does more with a token than to read its row, so tokens of other "
                "vocabularies cannot be shown to it; give a model with one plain embedding"
            ) from cause

    @torch.inference_mode()
    def nats(self, splits: Sequence[Split]) -> list[float]:
        """Tell how many nats each suffix costs after its prefix.

        Args:
            splits: Prefixes of ids below S + K and of any lengths, suffixes of ids below S.

        Raises:
            EvaluationError: If the model cannot be run, its losses are not finite, or it does more
                with an id than to look up its row.
        """
        order = sorted(range(len(splits)), key=lambda place: len(splits[place].prefix))
        found = [0.0] * len(splits)
        while order:
            longest = max(len(prefix) + len(suffix) for prefix, suffix in splits) - 1
            first = len(splits[order[0]].prefix)
            size = self._losses.batch_size(longest, longest - first + 1, BATCH_TOKENS)
            some, order = order[:size], order[size:]
            with running(self._name, len(some), longest):
                for place, nats in zip(some, self._run([splits[n] for n in some]), strict=True):
                    found[place] = nats
        return found

    def _run(self, splits: Sequence[Split]) -> list[float]:
        inputs = [[*prefix, *suffix[:-1]] for prefix, suffix in splits]
        longest = max(len(row) for row in inputs)
        # What follows does not change what a causal model has said before.
        padded = [row + row[-1:] * (longest - len(row)) for row in inputs]
        first = min(len(prefix) for prefix, _ in splits) - 1
        logits = self._logits(torch.tensor(padded), longest - first)
        begins = [len(prefix) - 1 - first for prefix, _ in splits]
        sizes = [len(suffix) for _, suffix in splits]
        rows = [row[b : b + size] for row, b, size in zip(logits, begins, sizes, strict=True)]
        nats = self._losses.nats(rows, [torch.tensor(suffix) for _, suffix in splits]).tolist()
        ends = [*accumulate(sizes)]
        return [sum(nats[end - size : end]) for end, size in zip(ends, sizes, strict=True)]

    def _logits(self, ids: Tensor, keep: int) -> Tensor:
        """Run the model on (B, L) ids; return (B, keep, S) logits of the last positions."""
        options = self._losses.options(keep)
        ids = ids.to(self._table.device)
        out: Any = functional_call(
            self._model,
            {self._place: self._table},
            kwargs={"input_ids": ids, **options},
            tie_weights=False,
        )
        logits: Tensor = out.logits
        return logits[:, -keep:, : self.rows]  # some heads are the embedding, whatever it is
