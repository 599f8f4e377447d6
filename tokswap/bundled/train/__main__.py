"""`python -m tokswap.bundled.train`: train the two bundled models and measure them."""

import platform
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from tokswap.bundled.train import evaluation
from tokswap.bundled.train.card import Result, model_card, table
from tokswap.bundled.train.corpus import Corpus, read_corpus
from tokswap.bundled.train.presets import PRESETS, Preset
from tokswap.bundled.train.tokenizer import token_id, write_tokenizer
from tokswap.bundled.train.training import (
    Progress,
    Settings,
    build_model,
    token_stream,
    train,
)

DEFAULT = Settings()


class Choice(StrEnum):
    """What to train."""

    TINY_LLAMA = "tiny-llama"
    TINY_MISTRAL = "tiny-mistral"
    ALL = "all"


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's weights, in bfloat16, and its configuration.

    Args:
        model: The trained model; it is left in bfloat16.
        folder: Where to write.
    """
    model.to(dtype=torch.bfloat16)  # type: ignore[call-arg, arg-type, unused-ignore]
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone


def measure(preset: Preset, folder: Path, corpus: Corpus) -> Result:
    """Measure what lies in a folder, so that the figures are those of the files.

    Args:
        preset: Which model it is.
        folder: The model's folder.
        corpus: The split library.

    Returns:
        The figures.
    """
    # The weights have bfloat16's precision; float32 is faster to compute with on a CPU.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Result(
        model=preset.name,
        parameters=model.num_parameters(),
        bytes_on_disk=sum(
            path.stat().st_size for path in folder.iterdir() if path.name != "README.md"
        ),
        held_out_bytes=evaluation.byte_count(corpus.held_out),
        bits_per_byte=evaluation.bits_per_byte(model, tokenizer, corpus.held_out),
        gzip_bits_per_byte=evaluation.gzip_bits_per_byte(corpus.held_out),
        python=platform.python_version(),
    )


def main(  # noqa: PLR0917 - one argument for each option
    model: Annotated[Choice, typer.Option(help="Which model.")] = Choice.ALL,
    minutes: Annotated[
        float, typer.Option(help="Training time of each model, which the schedule follows.")
    ] = DEFAULT.minutes,
    steps: Annotated[
        int | None, typer.Option(help="Steps, in place of the minutes: the same anywhere.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Windows of 256 tokens in a step.")] = DEFAULT.batch,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = DEFAULT.lr,
    seed: Annotated[int, typer.Option(help="Seed of the weights and the order.")] = DEFAULT.seed,
    threads: Annotated[int, typer.Option(help="Threads of PyTorch; 0 for its own choice.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where the models' folders go; beside this package.")
    ] = None,
) -> None:
    """Train the bundled models on the standard library and compare them with gzip."""
    if threads:
        torch.set_num_threads(threads)
    settings = Settings(steps=steps, minutes=minutes, batch=batch, lr=lr, seed=seed)
    corpus = read_corpus()
    results = []
    for preset in PRESETS.values():
        if model in {Choice.ALL, preset.name}:
            folder = (out or Path(__file__).parent.parent) / preset.name
            results.append(run(preset, settings, corpus, folder))
    typer.echo(table(results))


def run(preset: Preset, settings: Settings, corpus: Corpus, folder: Path) -> Result:
    """Train, save and measure one model.

    Args:
        preset: Which one.
        settings: How to train.
        corpus: The split library.
        folder: Where it goes.

    Returns:
        The figures.
    """

    def report(progress: Progress) -> None:
        typer.echo(
            f"{preset.name} step {progress.step} ({progress.done:.1%}) "
            f"loss {progress.loss:.3f} {progress.rate:.0f} tokens/s"
        )

    content = preset.train_tokenizer(corpus.train, preset.vocab_size)
    tokenizer = write_tokenizer(content, preset.special, folder)
    stream = token_stream(corpus.train, tokenizer, preset.special)
    typer.echo(f"{preset.name}: {len(corpus.train)} files, {len(stream)} tokens")
    torch.manual_seed(settings.seed)
    model = build_model(preset, tokenizer)
    bos = token_id(tokenizer, preset.special["bos_token"])
    taken = train(model, stream, bos, settings, report)
    save(model, folder)
    result = measure(preset, folder, corpus)
    card = model_card(preset, settings, result, corpus, taken, len(stream))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return result


if __name__ == "__main__":
    typer.run(main)
