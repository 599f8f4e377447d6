"""``tokswap eval``: measure models by bits per byte."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokswap.cli import show
from tokswap.cli.options import Device, Json, Quiet, Texts

if TYPE_CHECKING:
    from tokswap.evaluation.figures import GroupScore
    from tokswap.evaluation.measure import Evaluation


def evaluate_command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Aliases, Hub ids, folders or bundled.")
    ],
    text: Texts = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", metavar="ID[:CONFIG[:SPLIT]]", help="Dataset to stream; repeatable."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Model to give ratios to; measured too.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Tokens seen at once. Default: the least limit of the models, ≤ 1024."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Tokens by which the window moves. Default: half a window.")
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Read whole documents of a dataset up to this many bytes."),
    ] = None,
    device: Device = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Type to compute in. Default: float32 on the CPU, as stored elsewhere."),
    ] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure models by bits per byte, which is comparable across tokenizers.

    Token perplexity and tokens per byte are given beside it. Text is read through sliding windows
    and cut nowhere else.

    Example: tokswap eval out/demo --against tiny-llama --text notes.txt
    """
    show.start(quiet=quiet)
    from tokswap.evaluation.measure import evaluate

    evaluation = evaluate(
        *models,
        texts=text or (),
        datasets=dataset or (),
        against=against,
        window=window,
        stride=stride,
        max_bytes=max_bytes,
        device=device or "auto",
        dtype=dtype,
    )
    if json_output:
        show.print_json(evaluation.to_dict())
    else:
        print_scores(evaluation)


def print_scores(evaluation: "Evaluation") -> None:
    """Print scores as one table, with ratios where there is a model to compare with."""
    from tokswap.evaluation.measure import ratios

    first = evaluation.results[0]
    head = ["model", "bits/byte", "token perplexity", "tokens/byte"]
    head += ["× bits", "× perplexity"] if evaluation.against else []
    rows = []
    for score in evaluation.results:
        row = [
            score.model,
            f"{score.bits_per_byte:.4f}",
            f"{score.token_perplexity:,.2f}",
            f"{score.tokens_per_byte:.4f}",
        ]
        if evaluation.against:
            ratio = ratios(score, first)
            row += [f"{ratio['bits_per_byte']:.3f}", f"{ratio['token_perplexity']:.3f}"]
        rows.append(row)
    show.print_table(head, rows)
    names = ", ".join(text.name for text in first.texts)
    typer.echo(
        f"{first.bytes:,} bytes of {names}; window {first.window}, stride {first.stride} tokens; "
        f"{first.dtype}"
    )
    for score in evaluation.results:
        if score.groups:
            new = score.groups["new"]
            typer.echo(
                f"{score.model}: "
                + ", ".join(f"{group} tokens {_bits(part)}" for group, part in score.groups.items())
                + f" bits/byte ({new.tokens:,} new of {score.tokens:,} tokens, "
                f"{new.bytes / score.bytes:.0%} of the bytes)"
            )
    for score in evaluation.results:
        if score.unknown:
            typer.echo(
                f"note: {score.model} reads {score.unknown} unknown tokens, which hide text: its "
                "bits per byte are too low"
            )


def _bits(group: "GroupScore") -> str:
    return "–" if group.bits_per_byte is None else f"{group.bits_per_byte:.4f}"
