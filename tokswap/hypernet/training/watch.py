"""The network's transplant onto a tokenizer that it never saw, measured while it is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import PrivateAttr

from tokswap.evaluation.measure import SAMPLE, settle_window
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import file_text
from tokswap.hypernet.network import Hypernet, Predicted
from tokswap.hypernet.surface import SurfaceForms
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.recipe import HeldOutPart
from tokswap.methods import Method, Problem, Role
from tokswap.pair import Pair, open_pair
from tokswap.planning import make_plan
from tokswap.recipe import make_recipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

ROWS_AT_ONCE = 4096


class _Rows(Method):
    """Rows that are there already."""

    summary: ClassVar[str] = "rows that are there already"
    paper: ClassVar[str] = "none"
    _rows: Any = PrivateAttr()

    @classmethod
    def of(cls, rows: "Tensor") -> "_Rows":
        """Make a method that answers with these rows, (M, d)."""
        made = cls()
        made._rows = rows
        return made

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return True

    def fill(self, problem: Problem) -> "Tensor":  # noqa: ARG002 - whatever is asked
        """See :meth:`Method.fill`."""
        return self._rows  # type: ignore[no-any-return]


class Watch:
    """Measures a network by bits per byte.

    Args:
        said: The tokenizer and the text.
        forms: Cuts tokens into the network's pieces.
        base: What it is trained through; its body is not loaded again.
        tokenizer: The base's.
        device: Where to compute.
        language: What the network is told.

    Raises:
        TokswapError: If the tokenizer or a text cannot be had.
    """

    def __init__(
        self,
        said: HeldOutPart,
        forms: SurfaceForms,
        base: FrozenBase,
        tokenizer: "Tokenizer",
        *,
        device: str,
        language: int | None,
    ) -> None:
        asked = {
            "base_model": base.checkpoint.name,
            "donor": said.tokenizer,
            "method": "mean",
            "chat_template": "none",
            "text_only": True,
        }
        self._pair: Pair = open_pair(make_recipe(asked))
        self._texts = [file_text(Path(path).expanduser()) for path in said.text or [str(SAMPLE)]]
        self._window, self._stride = settle_window([base.checkpoint], said.window, None)
        self._swapped = SwappedModel(self._pair, base.model, tokenizer)
        self._base, self._language, self._device = base, language, device
        # Not those of the training, which are used by the thread that prepares the steps.
        alignment = self._pair.alignment
        spelling = alignment.donor.spelling
        tokens = [spelling[int(number)] or b"" for number in alignment.missing]
        self._forms, _ = forms.forms(tokens)

    def measure(self, network: Hypernet) -> dict[str, float]:
        """Measure the base with the rows that a network predicts of the tokens that it lacks.

        Returns:
            Bits per byte of ``all``, of ``shared`` and of ``new`` tokens.
        """
        alignment = self._pair.alignment
        predicted = self._rows(network, self._forms)
        outputs = predicted.inputs if predicted.outputs is None else predicted.outputs
        methods: dict[Role, Method] = {
            "input": _Rows.of(predicted.inputs),
            "output": _Rows.of(outputs),
        }
        plan = make_plan(alignment, methods, self._pair.tables())
        score = self._swapped.swapped(
            plan, self._texts, window=self._window, stride=self._stride, name="held out"
        ).score
        found = {"all": score.bits_per_byte}
        groups = {name: part.bits_per_byte for name, part in score.groups.items()}
        return found | {name: bits for name, bits in groups.items() if bits is not None}

    @torch.no_grad()
    def _rows(self, network: Hypernet, forms: "Tensor") -> Predicted:
        parts = [
            network(part.to(self._device), self._base.source, self._language)
            for part in torch.split(forms, ROWS_AT_ONCE)
        ]

        def joined(of: "Callable[[Predicted], Tensor | None]") -> "Tensor | None":
            found = [rows.float().cpu() for part in parts if (rows := of(part)) is not None]
            return torch.cat(found) if found else None

        inputs = joined(lambda part: part.inputs)
        assert inputs is not None  # noqa: S101 - for the type checker; it is always predicted
        return Predicted(inputs, joined(lambda part: part.outputs), None)
