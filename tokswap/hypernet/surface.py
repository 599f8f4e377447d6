"""Surface forms: the pieces that the network's own tokenizer cuts a token's bytes into."""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tokswap.errors import CheckpointError
from tokswap.hypernet.config import HypernetConfig
from tokswap.vocabulary.spelling import to_byte_level
from tokswap.vocabulary.tokens import Vocabulary

KEPT = 1 << 20
"""Tokens whose pieces are remembered; about 150 bytes each."""


class SurfaceForms:
    """Cuts tokens into the pieces that a hypernetwork reads.

    The bytes go through the model of the network's tokenizer alone, as its training did it: no
    normalisation, no pre-tokenisation, no special tokens. What was cut before is remembered, for
    sampled vocabularies resemble each other from step to step. Not for use by several threads.

    Args:
        vocabulary: The network's own tokenizer, which is byte-level.
        config: The network's sizes.

    Raises:
        CheckpointError: If the tokenizer is not byte-level, or has ids that the network has no
            rows for.
    """

    def __init__(self, vocabulary: Vocabulary, config: HypernetConfig) -> None:
        if vocabulary.alphabet != "byte-level":
            raise CheckpointError(
                f"{vocabulary.name}: a hypernetwork's tokenizer is byte-level, and this one is "
                f"{vocabulary.alphabet}; give the tokenizer.json that the network was trained with"
            )
        rows = config.original_vocab_size + config.extra
        if len(vocabulary) > rows:
            raise CheckpointError(
                f"{vocabulary.name}: its tokenizer has ids up to {len(vocabulary) - 1}, and the "
                f"network has rows for {rows}; give the tokenizer.json that it was trained with"
            )
        self.length, self.pad = config.hn_surface_maxlen, config.pad_token_id
        self._model = Tokenizer(vocabulary.backend.model)
        self._place: dict[bytes, int] = {}
        self._forms = np.empty((1024, self.length), dtype=np.int32)
        self._truncated = np.empty(1024, dtype=bool)

    def forms(self, data: Sequence[bytes]) -> tuple[Tensor, int]:
        """Cut N tokens.

        Args:
            data: The tokens' bytes, whole UTF-8 or not.

        Returns:
            (N, L) int64, the first L pieces of each, filled up with ``pad_token_id``; and how many
            tokens have more pieces than that.
        """
        new = [token for token in dict.fromkeys(data) if token not in self._place]
        if len(self._place) + len(new) > KEPT:
            self._place.clear()
            new = list(dict.fromkeys(data))
        if new:
            self._cut(new)
        places = np.fromiter((self._place[token] for token in data), np.int64, len(data))
        forms = torch.from_numpy(self._forms[places].astype(np.int64))
        return forms, int(self._truncated[places].sum())

    def _cut(self, tokens: Sequence[bytes]) -> None:
        """Cut tokens that were not seen before, and remember them."""
        first, size = len(self._place), len(self._place) + len(tokens)
        if size > len(self._forms):
            more = max(size - len(self._forms), len(self._forms))
            self._forms = np.pad(self._forms, ((0, more), (0, 0)))
            self._truncated = np.pad(self._truncated, (0, more))
        spelt = [to_byte_level(token) for token in tokens]
        cut = [encoding.ids for encoding in self._model.encode_batch_fast(spelt)]
        lengths = np.fromiter(map(len, cut), np.int64, len(cut))
        flat = np.fromiter((number for ids in cut for number in ids), np.int32, int(lengths.sum()))
        rows = np.repeat(np.arange(len(cut)), lengths)
        columns = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        forms = self._forms[first:size]
        forms.fill(self.pad)
        kept = columns < self.length
        forms[rows[kept], columns[kept]] = flat[kept]
        self._truncated[first:size] = lengths > self.length
        self._place.update(zip(tokens, range(first, size), strict=True))
