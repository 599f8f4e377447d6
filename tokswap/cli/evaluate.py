"""``tokswap eval``: measure models by bits per byte."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokswap.cli import show
from tokswap.cli.dynamic import print_dynamic
from tokswap.cli.options import Device, Json, Quiet, Texts
from tokswap.errors import EvaluationError

if TYPE_CHECKING:
    from tokswap.evaluation.figures import GroupScore, Score
    from tokswap.evaluation.measure import Evaluation


FLOOR = "segmentation floor"
"""What the table calls it."""

DYNAMIC = "Dynamic tokens"
"""Heading of their options in the help."""


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
        str | None,
        typer.Option(
            "--against",
            help="Model to give ratios to; measured too, and of what was made of it the "
            "segmentation floor.",
        ),
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
    merges: Annotated[
        int | None,
        typer.Option(
            "--dynamic-merges",
            metavar="N",
            min=1,
            help="Merge up to N frequent pairs of tokens in each batch of prefixes, and score what "
            "follows them. --stride is what is scored of a window.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(
            "--boundary",
            help="Merge within pretokens, words, or across any tokens (none). Default: pretokens.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Windows that share their merges. Default: 32.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="What fills their rows. Default: pieces; with a donor omp-pieces.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a value for it, as method.strategy=last.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    donor: Annotated[
        str | None,
        typer.Option(
            "--donor",
            "-d",
            help="Model whose weights the method reads; then only tokens that it has are made.",
            rich_help_panel=DYNAMIC,
        ),
    ] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure models by bits per byte, which is comparable across tokenizers.

    Token perplexity and tokens per byte are given beside it. Text is read through sliding windows
    and cut nowhere else. A transplant --against its base stands beside the segmentation floor: the
    base on the text as the transplant cuts it, which no initialisation mends.

    With --dynamic-merges one model is measured that reads frequent pairs of tokens as one, by rows
    that a method makes on demand.

    Example: tokswap eval out/demo --against tiny-llama --text notes.txt
    """
    show.start(quiet=quiet)
    common: dict[str, Any] = {
        "texts": text or (),
        "datasets": dataset or (),
        "window": window,
        "stride": stride,
        "max_bytes": max_bytes,
        "dtype": dtype,
    }
    asked = {"boundary": boundary, "batch": batch}
    filling = {"method": method, "set": settings, "donor": donor}
    if merges is None:
        _check_plain({**asked, **filling})
    else:
        _check_alone([*models, *([against] if against else [])])
        from tokswap.evaluation.dynamic import evaluate_dynamic
        from tokswap.on_demand.embedder import asked_recipe

        recipe = asked_recipe(
            models[0], donor, {"method": method, "device": device}, settings or []
        )
        common |= {name: value for name, value in asked.items() if value is not None}
        found = evaluate_dynamic(models[0], merges=merges, donor=donor, recipe=recipe, **common)
        if json_output:
            show.print_json(found.to_dict())
        else:
            print_dynamic(found)
        return
    from tokswap.evaluation.measure import evaluate

    evaluation = evaluate(*models, against=against, device=device or "auto", **common)
    if json_output:
        show.print_json(evaluation.to_dict())
    else:
        print_scores(evaluation)


def _check_plain(said: dict[str, Any]) -> None:
    """Check that nothing is said of dynamic tokens where none are wanted.

    Raises:
        EvaluationError: If something is.
    """
    if given := [f"--{name}" for name, value in said.items() if value is not None]:
        raise EvaluationError(
            f"{given[0]} is for dynamic tokens, and none were asked for; give --dynamic-merges N, "
            f"or leave {given[0]} out"
        )


def _check_alone(models: list[str]) -> None:
    """Check that one model is to be measured.

    Raises:
        EvaluationError: If there are several.
    """
    if len(models) > 1:
        raise EvaluationError(
            f"--dynamic-merges measures one model, and {' and '.join(models)} were given; name "
            "one, whose own figure without merges stands beside the others"
        )


def print_scores(evaluation: "Evaluation") -> None:
    """Print scores as one table, with ratios where there is a model to compare with."""
    from tokswap.evaluation.measure import ratios
    from tokswap.report.cut import cut_line

    first, shown = evaluation.results[0], _rows(evaluation)
    head = ["model", "bits/byte", "token perplexity", "tokens/byte"]
    head += ["× bits", "× perplexity"] if evaluation.against else []
    rows = []
    for name, score in shown:
        row = [
            name,
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
    for score, floor in evaluation.pairs:
        if floor:
            over = score.bits_per_byte - floor.score.bits_per_byte
            said = cut_line(floor.cut.to_dict(), over, trained=floor.trained)
            typer.echo(f"{score.model}: {said}")
    for _, score in shown:
        print_unknown(score)


def print_unknown(score: "Score") -> None:
    """Tell of tokens that hide text, where there are any."""
    if score.unknown:
        typer.echo(
            f"note: {score.model} reads {score.unknown} unknown tokens, which hide text: its "
            "bits per byte are too low"
        )


def _rows(evaluation: "Evaluation") -> "list[tuple[str, Score]]":
    """Name the rows of the table: the results, and each floor above the first that it is of."""
    several = len({id(floor.score) for floor in evaluation.floors if floor}) > 1
    rows: list[tuple[str, Score]] = []
    for score, floor in evaluation.pairs:
        if floor and all(floor.score is not other for _, other in rows):
            rows.append((f"{FLOOR} of {score.model}" if several else FLOOR, floor.score))
        rows.append((score.model, score))
    return rows


def _bits(group: "GroupScore") -> str:
    return "–" if group.bits_per_byte is None else f"{group.bits_per_byte:.4f}"
