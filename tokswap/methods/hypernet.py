"""A missing row is predicted by a network from the base's rows of the token's pieces."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.blocks import device_kind, digest
from tokswap.errors import MethodError, TokswapError
from tokswap.methods.answer import Answer
from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes
from tokswap.progress import note

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.hypernet.network import Predicted
    from tokswap.hypernet.published import Published


class Hypernet(Method):
    """A hypernetwork, as of Zero-Shot Tokenizer Transfer.

    A network that was trained for the base reads the base's rows of the pieces of a token and
    predicts the token's rows, of both roles at once, and its bias where the base's head has one.
    The token enters as its bytes, which the network's own tokenizer cuts; the first pieces are
    read, as many as it was trained for. ``checkpoint`` is a folder or an id on the Hub that holds
    config.json, tokenizer.json and model.safetensors (or flax_model.msgpack), as they are published
    and as `tokswap hypernet train` writes them; no code beside them is run.

    Rows of special tokens are the base's, always. Those of shared tokens are copied, or with
    ``shared: predict`` predicted as well, as the published transfers do. A network that knows
    several languages has to be told one as ``language``.
    """

    summary: ClassVar[str] = "a network's prediction from the base's rows of the token's pieces"
    paper: ClassVar[str] = (
        "Zero-Shot Tokenizer Transfer (Minixhofer, Ponti and Vulić, NeurIPS 2024, arXiv 2405.07883)"
    )
    wants: ClassVar[tuple[str, ...]] = ("checkpoint",)

    checkpoint: str | None = Field(
        default=None,
        min_length=1,
        description="the hypernetwork, which has to be one for this base: a folder, or an id on "
        "the Hub (needed)",
    )
    language: str | int | None = Field(
        default=None,
        description="language of the tokens, for a network that knows several: its name, or its "
        "number where the checkpoint has no names",
    )
    shared: Literal["copy", "predict"] = Field(
        default="copy", description="rows of shared tokens: the base's, or predicted too"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="what to compute in"
    )
    batch: int | None = Field(
        default=None,
        gt=0,
        description="tokens that are predicted at once at most; without it, as many as the memory "
        "holds",
    )

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return True

    @property
    def fills_shared(self) -> bool:
        """See :attr:`Method.fills_shared`."""
        return self.shared == "predict"

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`: the network has a head for each."""
        return True

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`; a network that a saved plan has outlived takes nothing."""
        import torch

        from tokswap.hypernet.predict import MOST, bytes_needed

        try:
            config = self._open().config
        except TokswapError:  # which :meth:`check` tells
            return Cost(dense=True)
        dtype = getattr(torch, self.dtype)
        standing, each = bytes_needed(config, torch.float32, dtype)
        # Both roles' rows as they come, and once more in their order.
        rows = 2 * 4 * sizes.filled(shared=self.fills_shared) * config.read
        return Cost(dense=True, memory=standing + min(self.batch or MOST, MOST) * each + rows)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        opened = self._open()
        return {opened.name: opened.identity}

    def check(self, sizes: Sizes) -> None:
        """See :meth:`Method.check`.

        Raises:
            MethodError: If no checkpoint is given, or one for another base or other languages.
            CheckpointError: If it is no hypernetwork, or none that is supported.
        """
        opened, alignment = self._open(), sizes.alignment
        opened.check_base(
            alignment.base, rows=alignment.base_rows, width=sizes.base_width, tied=sizes.tied
        )
        opened.language(self.language)
        opened.weights  # noqa: B018 - which may be missing
        opened.surface_forms  # noqa: B018 - as its tokenizer may

    def fill(self, problem: Problem) -> "Tensor | Answer":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If the network is not one for this base, the memory is too little, or its
                rows are not finite.
        """
        opened, alignment = self._open(), problem.alignment
        inputs, outputs = problem.base_inputs, problem.base_outputs
        tables = [(table or problem.base_table)() for table in (inputs, outputs)]
        separate = opened.config.separate_out_embeddings
        self.check(Sizes(alignment, tables[0].shape[1], 0, tied=problem.tied))
        tables = tables if separate else tables[:1]
        if not problem.ids:  # of one kind of tokens, perhaps
            return tables[0][:0].float()
        made = self._predicted(problem, tables)
        second = problem.role == "output" and made.outputs is not None
        rows = made.outputs if second and made.outputs is not None else made.inputs
        bias = made.bias if problem.has_bias and (second or problem.tied) else None
        if not all(bool(part.isfinite().all()) for part in (rows, bias) if part is not None):
            raise MethodError(
                f"{opened.name} predicts rows that are not finite in {self.dtype}; "
                + ("fetch it again" if self.dtype == "float32" else "set method.dtype=float32")
            )
        spelling = alignment.donor.spelling
        empty = [place for place, number in enumerate(problem.ids) if not spelling[number]]
        return _answer(problem, rows, bias, empty) if empty or bias is not None else rows

    def _open(self) -> "Published":
        """Open the checkpoint.

        Raises:
            MethodError: If none is given.
        """
        from tokswap.hypernet.published import open_published

        if self.checkpoint is None:
            raise MethodError(
                "hypernet needs a network that was trained for the base; give its folder or its id "
                "on the Hub: --set method.checkpoint=…"
            )
        return open_published(self.checkpoint)

    def _predicted(self, problem: Problem, tables: "list[Tensor]") -> "Predicted":
        """Predict the rows of both roles, once in a run."""
        import torch

        from tokswap.hypernet.network import Predicted
        from tokswap.hypernet.predict import Predictor, by_length, code_digest, in_order

        opened, spelling = self._open(), problem.alignment.donor.spelling
        language = opened.language(self.language)
        forms, truncated = opened.surface_forms.forms([spelling[n] or b"" for n in problem.ids])
        order = by_length(forms, opened.config.pad_token_id)
        said = {
            "network": opened.identity,
            "language": language,
            "dtype": self.dtype,
            "batch": self.batch,
            "device": device_kind(problem.device),
            "code": code_digest(),
        }
        key = digest(*tables, forms[order], said)
        made: list[Predictor] = []
        if truncated and not problem.blocks.has(key):
            note(
                f"note: {truncated:,} of {len(forms):,} tokens have more than {forms.shape[1]} "
                f"pieces; {opened.name} reads the first {forms.shape[1]} of them"
            )

        def solve(start: int, stop: int) -> "tuple[Tensor, ...]":
            if not made:  # what an earlier run has kept needs no network
                made.append(
                    Predictor(
                        opened.load(),
                        tables,
                        language=language,
                        dtype=getattr(torch, self.dtype),
                        device=problem.device,
                        memory=problem.memory,
                        batch=self.batch,
                    )
                )
            found = made[0].rows(forms[order[start:stop]])
            parts = (found.inputs, found.outputs, found.bias)
            return tuple(part for part in parts if part is not None)

        label = f"hypernet, {problem.purpose}"
        inputs, *others = problem.blocks.run(label, key, len(forms), solve)
        outputs = others.pop(0) if opened.config.separate_out_embeddings else None
        return in_order(Predicted(inputs, outputs, others[0] if others else None), order)


def _answer(problem: Problem, rows: "Tensor", bias: "Tensor | None", empty: list[int]) -> Answer:
    """Put the rows with their bias; a token without bytes gets the mean of the base's rows."""
    import torch

    from tokswap.solvers.sparse import SparseRows

    count = len(rows)
    places = torch.ones(count, dtype=torch.bool)
    places[empty] = False
    mean = torch.where(places, -1, problem.mean_column)
    return Answer(
        weights=SparseRows.selection(mean, problem.columns),
        averages=SparseRows.from_lists([], [], problem.alignment.base_rows),
        places=places.nonzero()[:, 0],
        rows=rows[places],
        bias=None if bias is None else bias[places],
    )
