"""The table of figures and the model cards."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from tokswap.bundled.train.corpus import Corpus
from tokswap.bundled.train.evaluation import byte_count
from tokswap.bundled.train.presets import Preset
from tokswap.bundled.train.training import WINDOW, Settings

CARD = """\
# {name}

{description}. For tests and demonstrations only.

Weights trained on the standard library of CPython {python}, PSF licence: sources and documentation,
{files} files, {size:.1f} MB, {tokens:,} tokens; test suites and character tables left out.

| | |
|---|---|
| parameters | {parameters:,}, bfloat16 |
| training | {steps:,} steps of {batch} windows of {window}: {seen:,} tokens, {epochs:.1f} epochs |
| optimizer | AdamW, betas 0.9 and 0.95, weight decay {weight_decay}, float32, clipped at 1 |
| learning rate | {lr}, linear warm-up, cosine to zero |
| held out | {held_files} whole files chosen by the hash of their path, {held_bytes:,} bytes |
| bits per byte on them | **{bits:.3f}** (windows of 256 tokens sliding by 128) |
| `gzip -9` on them, one stream | {gzip:.3f} |

    python -m tokswap.bundled.train --model {name} {length} --batch {batch} \\
        --lr {lr} --seed {seed} --threads {threads}
"""


@dataclass(frozen=True)
class Result:
    """The figures of one model.

    Attributes:
        model: Its name.
        parameters: Its parameters, tied ones once.
        bytes_on_disk: The size of its files, the model card left out.
        held_out_bytes: The bytes it was measured on.
        bits_per_byte: Its bits per byte.
        gzip_bits_per_byte: Those of `gzip -9` on the same bytes.
        python: The version of Python whose library it was.
    """

    model: str
    parameters: int
    bytes_on_disk: int
    held_out_bytes: int
    bits_per_byte: float
    gzip_bits_per_byte: float
    python: str


def table(results: Iterable[Result]) -> str:
    """Format the figures as a Markdown table.

    Args:
        results: One for each model.

    Returns:
        The table.
    """
    lines = [
        "| model | parameters | file bytes | held-out bytes | bits per byte | gzip -9 | Python |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {result.model} | {result.parameters:,} | {result.bytes_on_disk:,} "
        f"| {result.held_out_bytes:,} | {result.bits_per_byte:.3f} "
        f"| {result.gzip_bits_per_byte:.3f} | {result.python} |"
        for result in results
    ]
    return "\n".join(lines)


def model_card(
    preset: Preset, settings: Settings, result: Result, corpus: Corpus, steps: int, tokens: int
) -> str:
    """Write the model card.

    Args:
        preset: Which model.
        settings: How it was trained.
        result: Its figures.
        corpus: What it was trained and measured on.
        steps: The steps taken.
        tokens: The tokens of the training files.

    Returns:
        The text of `README.md`.
    """
    seen = steps * settings.batch * WINDOW
    return CARD.format(
        name=preset.name,
        description=preset.description,
        python=result.python,
        files=len(corpus.train),
        size=byte_count(corpus.train) / 1e6,
        tokens=tokens,
        parameters=result.parameters,
        steps=steps,
        batch=settings.batch,
        window=WINDOW,
        seen=seen,
        epochs=seen / tokens,
        weight_decay=settings.weight_decay,
        lr=settings.lr,
        held_files=len(corpus.held_out),
        held_bytes=result.held_out_bytes,
        bits=result.bits_per_byte,
        gzip=result.gzip_bits_per_byte,
        length=f"--steps {settings.steps}" if settings.steps else f"--minutes {settings.minutes:g}",
        seed=settings.seed,
        threads=torch.get_num_threads(),
    )
