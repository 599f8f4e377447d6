"""Training of one model from scratch on the CPU."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from tokswap.bundled.train.corpus import Document
from tokswap.bundled.train.presets import Preset
from tokswap.bundled.train.tokenizer import token_id

WINDOW = 256
MAX_POSITIONS = WINDOW  # what they were trained for
BOS_SHARE = 0.5
WARM_UP = 100
REPORT_EVERY = 100


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: The number of steps, or None to train by the clock.
        minutes: How long to train where `steps` is None.
        batch: Windows in one step.
        lr: The highest learning rate.
        weight_decay: The weight decay of the matrices.
        seed: The seed of the weights and of the order of the windows.
    """

    steps: int | None = None
    minutes: float = 25.0
    batch: int = 8
    lr: float = 4e-3
    weight_decay: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: Steps done.
        done: The share of the training that was done before it.
        loss: Mean loss since the last report, nats per token.
        rate: Tokens per second since the last report.
    """

    step: int
    done: float
    loss: float
    rate: float


def token_stream(
    documents: tuple[Document, ...], tokenizer: Tokenizer, special: dict[str, str]
) -> Tensor:
    """Encode files into one stream, each between its BOS and its EOS.

    Args:
        documents: The files.
        tokenizer: The model's tokenizer.
        special: The special tokens by their names in `tokenizer_config.json`.

    Returns:
        Token ids, one dimension.
    """
    ids: list[int] = []
    for document in documents:
        ids += tokenizer.encode(document.text).ids  # BOS comes from the post-processor
        ids.append(token_id(tokenizer, special["eos_token"]))
    return torch.tensor(ids)


def build_model(preset: Preset, tokenizer: Tokenizer) -> PreTrainedModel:
    """Make a model with random weights.

    Args:
        preset: Which one.
        tokenizer: Its tokenizer.

    Returns:
        The model in float32.
    """
    settings: dict[str, Any] = {
        "vocab_size": preset.vocab_size,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.02,
        **preset.shape,
    }
    for kind in ("bos", "eos", "pad"):
        token = preset.special.get(f"{kind}_token")
        settings[f"{kind}_token_id"] = None if token is None else token_id(tokenizer, token)
    return preset.model(preset.config(**settings))


def train(
    model: PreTrainedModel,
    stream: Tensor,
    bos: int,
    settings: Settings,
    report: Callable[[Progress], None],
) -> int:
    """Train a model in place.

    Args:
        model: The model, in float32.
        stream: The token ids of the training files.
        bos: The id of the BOS token.
        settings: How to train.
        report: Called now and then.

    Returns:
        The number of steps taken.
    """
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    gains = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = _batches(stream, bos, settings.batch, generator)
    start = since = time.perf_counter()
    step = reported = 0
    losses: list[float] = []
    while (done := _done(step, start, settings)) < 1:
        windows = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * schedule(step, done)
        logits = model(windows[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % REPORT_EVERY == 0:
            now = time.perf_counter()
            rate = (step - reported) * settings.batch * WINDOW / (now - since)
            report(Progress(step, done, sum(losses) / len(losses), rate))
            since, reported, losses = now, step, []
    return step


def schedule(step: int, done: float) -> float:
    """Give the learning rate as a share of the highest: linear warm-up, then half a cosine.

    Args:
        step: The step about to be taken, from zero.
        done: The share of the training that is done.

    Returns:
        The share.
    """
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


def _done(step: int, start: float, settings: Settings) -> float:
    """Tell how much is done: by the clock, so that a busy machine ends in time, or by steps."""
    if settings.steps is not None:
        return step / settings.steps
    return (time.perf_counter() - start) / (60 * settings.minutes)


def _batches(stream: Tensor, bos: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of windows and their next tokens; each epoch cuts at another offset."""
    while True:
        offset = int(torch.randint(WINDOW, (), generator=generator))
        windows = stream[offset:].unfold(0, WINDOW + 1, WINDOW)
        order = torch.randperm(len(windows), generator=generator)
        for first in range(0, len(order) - batch + 1, batch):
            picked = windows[order[first : first + batch]]  # a copy
            # A text given to the model begins with BOS wherever it was cut from, so the model has
            # to know windows with it and, for sliding ones, without.
            picked[torch.rand(batch, generator=generator) < BOS_SHARE, 0] = bos
            yield picked
