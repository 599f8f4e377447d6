"""An encoder that sentence-transformers runs: its own modules, pooling and prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tokswap.evaluation.load import quiet


class SentenceEncoder:
    """A sentence-transformers model in memory; see :class:`~tokswap.encoders.encoder.Loaded`."""

    def __init__(
        self, folder: Path, *, prefix: str | None, limit: int, device: str, dtype: str
    ) -> None:
        with quiet():
            self._model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, dtype)},
            )
        self._model.eval()
        own_prompt = self._model.prompts.get(self._model.default_prompt_name) or ""
        self._prompt = own_prompt if prefix is None else prefix
        tokenizer = self._model.tokenizer
        self._tokenizer = None
        if isinstance(tokenizer, PreTrainedTokenizerBase):  # a table of vectors has none of these
            self._tokenizer = tokenizer
            self._model.max_seq_length = min(self._model.max_seq_length or limit, limit)
        self.width = self.run(["a"]).shape[1]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """See :meth:`tokswap.encoders.encoder.Loaded.lengths`."""
        if self._tokenizer is None:
            return [1] * len(texts)
        said = [self._prompt + text for text in texts]
        read = self._tokenizer(said, truncation=True, max_length=self._model.max_seq_length)
        return [len(ids) for ids in read["input_ids"]]

    def run(self, texts: Sequence[str]) -> Tensor:
        """See :meth:`tokswap.encoders.encoder.Loaded.run`."""
        with quiet():
            vectors: Tensor = self._model.encode(
                list(texts),
                prompt=self._prompt,
                batch_size=len(texts),
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        return vectors.cpu().float()
