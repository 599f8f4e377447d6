"""The network: from the base's rows of a token's pieces to the rows of the token.

Modules are named as published checkpoints name their weights. What they hold beside these (a table
of words, which nothing reads) is left out here and written by :mod:`tokswap.hypernet.stored`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokswap.hypernet.config import POSITIONS, HypernetConfig

PROJECTOR_EPS = 1e-6
ENCODER_EPS = 1e-5
SPREAD = 0.02
"""Standard deviation of the encoder's weights, and of rows, at the beginning."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """The rows of N tokens.

    Attributes:
        inputs: (N, d) rows of the embedding; of both roles where the base has one table.
        outputs: (N, d) rows of the head, or None where the base has one table.
        bias: (N,) for the head, or None where the network predicts none.
    """

    inputs: Tensor
    outputs: Tensor | None
    bias: Tensor | None


class Rescaler(nn.Module):
    """A factor and a summand for each of the numbers in a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, width))
        self.b = nn.Parameter(torch.zeros(1, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Rescale rows (…, width)."""
        return rows * self.w + self.b


class ProjectorBlock(nn.Module):
    """LayerNorm(gelu(dense2(gelu(dense1(x)))) + x), with the tanh form of gelu."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(width, inner)
        self.dense2 = nn.Linear(inner, width)
        self.ln = nn.LayerNorm(width, eps=PROJECTOR_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Project (…, D) to (…, D)."""
        inner = functional.gelu(self.dense1(x), approximate="tanh")
        return self.ln(functional.gelu(self.dense2(inner), approximate="tanh") + x)  # type: ignore[no-any-return]


def _table(rows: int, width: int) -> nn.Embedding:
    """Make a table whose numbers are drawn later."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class _Embeddings(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # Plain tables: a padding index would keep one position from ever learning.
        self.position_embeddings = _table(POSITIONS, width)
        self.token_type_embeddings = _table(1, width)
        self.LayerNorm = nn.LayerNorm(width, eps=ENCODER_EPS)


class _SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)


class _Output(nn.Module):
    """What follows attention and the inner layer: a projection, then the residual and its norm."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=ENCODER_EPS)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Project (…, inner) and add the residual (…, D)."""
        return self.LayerNorm(self.dense(x) + residual)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """A layer of RoBERTa's encoder: attention and two dense layers, each with its norm behind."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(width), "output": _Output(width, width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _Output(inner, width)

    def forward(self, x: Tensor, mask: Tensor, *, first_only: bool) -> Tensor:
        """Attend and transform.

        Args:
            x: (N, P, D).
            mask: (N, 1, 1, P) bool, what may be attended to.
            first_only: Whether only the first position is asked for.

        Returns:
            (N, P, D), or (N, 1, D).
        """
        attend: Any = self.attention["self"]
        asked = x[:, :1] if first_only else x
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (attend.query(asked), attend.key(x), attend.value(x))
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attention["output"](seen.transpose(1, 2).flatten(2), asked)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        width, inner = config.hn_hidden_size, config.hn_intermediate_size
        layers = (_Layer(width, inner, config.heads) for _ in range(config.hn_n_layers))
        self.layer = nn.ModuleList(layers)


class _Model(nn.Module):
    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config.hn_hidden_size)
        self.encoder = _Encoder(config)


class Hypernet(nn.Module):
    """The hypernetwork of Zero-Shot Tokenizer Transfer.

    Each piece of a token is read as the base's row of it (both roles' side by side where they
    differ), projected, and encoded together with the other pieces; the state at the first piece is
    projected to the token's rows. Tokens do not see each other, so rows are the same in any batch.

    Args:
        config: Its sizes.
        generator: For the weights that it begins with; without it, torch's own.

    Reference:
        Minixhofer, Ponti and Vulić (NeurIPS 2024), https://arxiv.org/abs/2405.07883.
    """

    def __init__(self, config: HypernetConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        width, inner, d = config.hn_hidden_size, config.hn_intermediate_size, config.n_embd

        def projection(out: int) -> nn.Sequential:
            return nn.Sequential(ProjectorBlock(width, inner), nn.Linear(width, out))

        self.fallback_embeddings = _table(config.extra, config.read)
        self.input_projection = nn.Sequential(
            nn.Linear(config.read, width), ProjectorBlock(width, inner)
        )
        self.model = _Model(config)
        self.output_projection = projection(config.read if config.hn_single_head else d)
        if config.two_heads:
            self.output_projection_out = projection(d)
        if config.hn_rescale_embeddings:
            self.in_scaler = Rescaler(config.read)
            self.scaler = Rescaler(d)
            if config.separate_out_embeddings:
                self.out_scaler = Rescaler(d)
        if config.hn_predict_bias:
            self.bias_projection = nn.Linear(width, 1)
        if config.languages:
            self.lang_embeddings = _table(config.languages, width)
        self._begin(generator)

    @torch.no_grad()
    def _begin(self, generator: torch.Generator | None) -> None:
        """Draw the first weights: the projections by LeCun's rule, all else as RoBERTa's."""
        for name, module in self.named_modules():
            if any(part.is_meta for part in module.parameters(recurse=False)):
                continue  # there is nothing to draw
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, SPREAD, generator=generator)
            elif isinstance(module, nn.Linear):
                within = name.startswith("model.")
                spread = SPREAD if within else 1.0 / math.sqrt(module.in_features)
                module.weight.normal_(0.0, spread, generator=generator)
                module.bias.zero_()

    def forward(self, forms: Tensor, source: Tensor, language: int | None = None) -> Predicted:
        """Predict the rows of tokens.

        Args:
            forms: (N, P) int64, P ≤ L, each token's pieces (its *surface form*): ids of the base's
                rows, from V on of rows of the network's own, then ``pad_token_id``.
            source: (≥ V, n_in) the base's rows; of an untied base the embedding's and the head's
                side by side.
            language: Index of the language, where the network is told one.

        Raises:
            ValueError: If the language is none that it knows, or it is told none.
        """
        config = self.config
        if (language is None) == bool(config.languages) or not (
            language is None or 0 <= language < config.languages
        ):
            raise ValueError(f"language {language} is none of {config.languages}")
        mask = forms != config.pad_token_id
        mask[:, 0] = True  # a token without pieces sees itself, and nothing is undefined
        longest = int(mask.any(dim=0).nonzero().max()) + 1 if len(forms) else 1
        forms, mask = forms[:, :longest], mask[:, :longest]
        x = self._projected(forms, source)
        told = self.model.embeddings
        x = x + told.position_embeddings.weight[: x.shape[1]] + told.token_type_embeddings.weight[0]
        if language is not None:
            last = self.lang_embeddings.weight[language].expand(len(x), 1, -1)
            x = torch.cat([x, last], dim=1)
            mask = functional.pad(mask, (0, 1), value=True)
        x = told.LayerNorm(x)
        mask = mask[:, None, None]
        layers = self.model.encoder.layer
        for number, layer in enumerate(layers):
            x = layer(x, mask, first_only=number == len(layers) - 1)
        return self._rows(x[:, 0])

    def _projected(self, forms: Tensor, source: Tensor) -> Tensor:
        """Read and project the pieces, (N, P, D); each row that occurs is projected once."""
        rows = self.config.original_vocab_size
        ids, places = torch.unique(forms, return_inverse=True)
        known = source.index_select(0, ids.clamp(max=rows - 1)).to(self.fallback_embeddings.weight)
        if self.config.hn_rescale_embeddings:
            known = self.in_scaler(known)
        own = self.fallback_embeddings((ids - rows).clamp(min=0))
        read = torch.where((ids < rows)[:, None], known, own)
        return functional.embedding(places, self.input_projection(read))

    def _rows(self, state: Tensor) -> Predicted:
        config = self.config
        inputs, outputs = self.output_projection(state), None
        if config.two_heads:
            outputs = self.output_projection_out(state)
        elif config.separate_out_embeddings:
            inputs, outputs = inputs.split(config.n_embd, dim=-1)
        if config.hn_rescale_embeddings:
            inputs = self.scaler(inputs)
            outputs = None if outputs is None else self.out_scaler(outputs)
        bias = self.bias_projection(state)[:, 0] if config.hn_predict_bias else None
        return Predicted(inputs, outputs, bias)
