"""A Hugging Face encoder with a pooling that the user has said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from tokswap.errors import EncoderError
from tokswap.evaluation.load import position_limit, quiet

BEFORE_TEXT = 2
"""Positions that some encoders (RoBERTa and its kin) have but give to no token."""


class PlainEncoder:
    """A transformer in memory; see :class:`~tokswap.encoders.encoder.Loaded`.

    Texts are padded behind, and what is padded is masked: under a causal mask no token sees it,
    so the last token of a text is the same wherever it stands in its batch.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pooling: str,
        prefix: str,
        limit: int,
        device: str,
        dtype: str,
    ) -> None:
        """Load a model from a local folder; nothing in it is run.

        Raises:
            EncoderError: If weights that the vectors are computed with are not there.
        """
        with quiet():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model, info = AutoModel.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self._model: Any = model.to(device).eval()
        # A pooler of the model's own is not used here; some encoders are stored without it.
        own = {name for name, _ in self._model.named_parameters() if "pooler" not in name}
        missing = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
        if lacking := [
            name for name in missing if name.removeprefix("encoder.") in own or name in own
        ]:
            raise EncoderError(
                f"{folder} lacks {len(lacking)} weights of its model, or has them in another "
                f"shape, among them {min(lacking)}; fetch it again"
            )
        self._pooling = pooling
        self._prefix = prefix
        self._device = device
        positions = position_limit(self._model.config) or limit + BEFORE_TEXT
        self._limit = min(self._tokenizer.model_max_length, max(1, positions - BEFORE_TEXT), limit)
        self.width = self.run(["a"]).shape[1]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """See :meth:`tokswap.encoders.encoder.Loaded.lengths`."""
        return [len(ids) for ids in self._cut(texts)]

    @torch.no_grad()
    def run(self, texts: Sequence[str]) -> Tensor:
        """See :meth:`tokswap.encoders.encoder.Loaded.run`."""
        tokens = self._cut(texts)
        lengths = torch.tensor([len(ids) for ids in tokens], device=self._device)
        longest = max(map(len, tokens))
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[*said, *[pad] * (longest - len(said))] for said in tokens])
        mask = torch.arange(longest, device=self._device) < lengths[:, None]
        states = self._model(input_ids=ids.to(self._device), attention_mask=mask.long())[0].float()
        if self._pooling == "cls":
            pooled = states[:, 0]
        elif self._pooling == "last":
            pooled = states[torch.arange(len(states), device=self._device), lengths - 1]
        else:
            pooled = (states * mask[..., None]).sum(1) / lengths[:, None]
        vectors: Tensor = pooled.cpu()
        return vectors

    def _cut(self, texts: Sequence[str]) -> list[list[int]]:
        said = [self._prefix + text for text in texts]
        read: list[list[int]] = self._tokenizer(said, truncation=True, max_length=self._limit)[
            "input_ids"
        ]
        return read
