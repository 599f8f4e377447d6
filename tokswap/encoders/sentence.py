"""An encoder that sentence-transformers runs: its own modules, pooling and prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from tokswap.evaluation.load import quiet


class SentenceEncoder:
    """A sentence-transformers model in memory; see :class:`~tokswap.encoders.encoder.Loaded`."""

    def __init__(
        self,
        folder: Path,
        *,
        prefix: str | None,
        limit: int,
        device: str,
        dtype: str,
        batch_size: int,
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
        self._prefix = prefix
        self._batch_size = batch_size
        own = self._model.max_seq_length
        if (own is None or own > limit) and hasattr(self._model[0], "model"):  # not of a table
            self._model.max_seq_length = limit
        self.width = len(self._run(["a"])[0])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See :meth:`tokswap.encoders.encoder.Loaded.encode`."""
        vectors = torch.zeros(len(texts), self.width)
        told = [place for place, text in enumerate(texts) if not self._is_nothing(text)]
        if told:
            vectors[told] = self._run([texts[place] for place in told])
        return vectors

    def _run(self, texts: list[str]) -> Tensor:
        with quiet():
            vectors: Tensor = self._model.encode(
                texts,
                prompt=self._prefix,
                batch_size=self._batch_size,
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        return vectors.cpu().float()

    def _is_nothing(self, text: str) -> bool:
        """Tell whether a text has no token at all, which models fail at; it gets zeros."""
        tokenizer = self._model.tokenizer
        if text.strip() or not callable(tokenizer):
            return False
        prompt = self._prefix if self._prefix is not None else self._default_prompt()
        return not tokenizer(prompt + text)["input_ids"]

    def _default_prompt(self) -> str:
        return self._model.prompts.get(self._model.default_prompt_name) or ""
