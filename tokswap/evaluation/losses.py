"""One forward pass: how many nats each asked token costs."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tokswap.errors import EvaluationError
from tokswap.evaluation.windows import Window

LOGITS_BYTES = 1 << 28  # of logits held at once, unless one window alone has more


class Losses:
    """A model, with what has to be known about it to ask it for losses.

    Attributes:
        rows: Rows of the input embedding.
        dtype: Its dtype, by name.
    """

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        self._model = model
        self._name = name
        self._ids: Tensor | None = None
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        weight: Tensor = embedding.weight
        self._device = weight.device
        self._item = weight.element_size()
        self.rows = weight.shape[0]
        self.dtype = str(weight.dtype).removeprefix("torch.")
        known = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in known
        self._options = {"use_cache": False} if "use_cache" in known else {}

    def reads(self, ids: Tensor) -> None:
        """Let windows hold numbers that stand for these ids, (V,) int64, instead of ids."""
        self._ids = ids

    def batch_size(self, inputs: int, targets: int, batch_tokens: int) -> int:
        """Tell how many windows of one shape go through the model together.

        Args:
            inputs: Tokens that each window shows to the model.
            targets: Tokens for which each window asks.
            batch_tokens: Tokens to show at once.

        Returns:
            As many as keep the logits within ``LOGITS_BYTES``, at least 1.
        """
        positions = targets if self._keeps else inputs
        fitting = LOGITS_BYTES // (positions * self.rows * self._item)
        return max(1, min(batch_tokens // inputs, fitting))

    def options(self, positions: int) -> dict[str, Any]:
        """Tell how to call the model for the logits of the last positions; more may come."""
        return ({"logits_to_keep": positions} if self._keeps else {}) | self._options

    @torch.inference_mode()
    def of(self, batch: list[Window]) -> Tensor:
        """Run the model once.

        Args:
            batch: B windows with equally many inputs and equally many targets (n).

        Returns:
            (B, n) float64 on the CPU: the nats of each target, computed in float32.

        Raises:
            EvaluationError: If the head has no row for a target, or a loss is not finite.
        """
        inputs = torch.tensor([window.inputs for window in batch])
        targets = torch.tensor([window.targets for window in batch])
        if self._ids is not None:
            inputs, targets = self._ids[inputs], self._ids[targets]
        asked = targets.shape[1]
        inputs = inputs.to(self._device)
        logits: Tensor = self._model(input_ids=inputs, **self.options(asked)).logits
        rows = [row[-asked:] for row in logits]
        return self.nats(rows, list(targets)).view(targets.shape)

    def nats(self, logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Tell how many nats targets cost.

        Args:
            logits: Of each window (n, T), of the positions before its targets.
            targets: Of each window (n,) ids.

        Returns:
            (sum of all n,) float64 on the CPU, window by window, computed in float32.

        Raises:
            EvaluationError: If the head has no row for a target, or a loss is not finite.
        """
        width = logits[0].shape[-1]
        largest = max(int(wanted.max()) for wanted in targets)
        if largest >= width:
            raise EvaluationError(
                f"the head of {self._name} has {width} rows, but its tokenizer gave the id "
                f"{largest}; give a model and a tokenizer that belong together"
            )
        # float32 logits and their log-softmax, of so many positions at a time.
        step = max(1, LOGITS_BYTES // (8 * width))
        parts = [
            functional.cross_entropy(
                row[start : start + step].float(),
                wanted[start : start + step].to(row.device),
                reduction="none",
            )
            for row, wanted in zip(logits, targets, strict=True)
            for start in range(0, len(wanted), step)
        ]
        losses = torch.cat(parts).double().cpu()
        if not bool(torch.isfinite(losses).all()):
            raise EvaluationError(
                f"{self._name} gives losses that are not finite (NaN or infinite) in {self.dtype};"
                " check its weights, or measure it in float32"
            )
        return losses
