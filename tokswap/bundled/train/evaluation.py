"""Bits per byte on held-out files, and what gzip makes of the same bytes."""

import gzip
import math

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import PreTrainedModel

from tokswap.bundled.train.corpus import Document

WINDOW = 256
STRIDE = 128
BATCH = 16


def byte_count(documents: tuple[Document, ...]) -> int:
    """Count the bytes of files.

    Args:
        documents: The files.

    Returns:
        Their length in UTF-8.
    """
    return sum(len(document.text.encode()) for document in documents)


def gzip_bits_per_byte(documents: tuple[Document, ...]) -> float:
    """Compress files as one stream with `gzip -9`.

    Args:
        documents: The files.

    Returns:
        Bits per byte.
    """
    data = b"".join(document.text.encode() for document in documents)
    return 8 * len(gzip.compress(data, compresslevel=9, mtime=0)) / len(data)


@torch.inference_mode()
def bits_per_byte(
    model: PreTrainedModel, tokenizer: Tokenizer, documents: tuple[Document, ...]
) -> float:
    """Measure a model on files, each alone and begun with BOS.

    Windows of 256 tokens slide by 128; every token is scored once, in the first window that holds
    it, so that all but a file's first tokens have at least 128 before them.

    Args:
        model: The model.
        tokenizer: Its tokenizer, whose post-processor adds BOS.
        documents: The files.

    Returns:
        Bits per byte.
    """
    windows: list[tuple[list[int], int]] = []  # token ids, and how many of the last are scored
    for document in documents:
        ids = tokenizer.encode(document.text).ids
        done = 1  # BOS is given
        while done < len(ids):
            end = min(len(ids), WINDOW if done == 1 else done + STRIDE)
            windows.append((ids[max(0, end - WINDOW) : end], end - done))
            done = end
    windows.sort(key=lambda window: len(window[0]))  # so that a batch needs little padding
    nats = 0.0
    for first in range(0, len(windows), BATCH):
        batch = windows[first : first + BATCH]
        longest = len(batch[-1][0])
        # Padding comes after the text, where causal attention does not look.
        inputs = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in batch])
        log_probs = functional.log_softmax(model(inputs).logits.float(), dim=-1)
        for row, (ids, scored) in enumerate(batch):
            start = len(ids) - scored
            targets = inputs[row, start : len(ids), None]
            nats -= log_probs[row, start - 1 : len(ids) - 1].gather(1, targets).sum().item()
    return nats / math.log(2) / byte_count(documents)
