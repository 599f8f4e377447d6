"""``tokswap compare``: several methods on one pair, measured on one text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokswap import ranks
from tokswap.cli import show
from tokswap.cli.options import (
    Device,
    Json,
    Memory,
    Quiet,
    Refit,
    RefitMinutes,
    RefitWritten,
    Texts,
)
from tokswap.errors import RecipeError

if TYPE_CHECKING:
    from tokswap.comparison.compare import Compared
    from tokswap.comparison.recipe import Comparison

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        "-m",
        metavar="A,B,...",
        help="Methods to compare; see `tokswap methods`. Default: all that need no settings, but "
        "pieces under one name (no retok, no fvt).",
    ),
]
Sweeps = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="METHOD.KEY=V1,V2,...",
        help="Try several values of a setting, as omp.k=8,16; repeatable.",
    ),
]


def compare_command(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE.yaml", help="What to compare; options replace what it says."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", "-b", help="Model whose body is kept.")
    ] = None,
    donor: Annotated[
        str | None,
        typer.Option("--donor", "-d", help="Model or tokenizer whose vocabulary is adopted."),
    ] = None,
    methods: Names = None,
    sweep: Sweeps = None,
    text: Texts = None,
    train_text: Annotated[
        list[Path] | None,
        typer.Option("--train-text", help="Text for methods that learn from text; repeatable."),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens seen at once. Default: the model's limit, ≤ 1024.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Tokens by which the window moves. Default: half a window.")
    ] = None,
    refit: Refit = None,
    refit_minutes: RefitMinutes = None,
    refit_written: RefitWritten = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="Seeds of methods that draw at random. Default: 0."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a key of the comparison, as tokenizer.size=tight or eval.window=256.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder to write. Default: BASE-DONOR-compare, here."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew what an earlier run has kept there.")
    ] = False,
    device: Device = None,
    memory: Memory = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on one pair by bits per byte; no checkpoint is written.

    Each method's rows are swapped into the base in memory and measured on the same text. Above
    them stand the base on its own cut of the text and the segmentation floor: its own rows on the
    text as the donor cuts it, which is what is lost by the cut alone. With --refit the rows of each
    method are also refitted to a text, for a second column.

    The folder gets compare.json, compare.csv and compare.png, and every finished run, so that the
    same command goes on where it was stopped. The exit code is 1 only if all methods fail.

    Example: tokswap compare --base tiny-llama --donor tiny-mistral --sweep omp.k=8,32

    Example: tokswap compare recipes/tiny/compare.yaml --window 128 --out out/short
    """
    show.start(quiet=quiet)
    if ranks.number():
        return  # methods are measured one after the other, which the first rank does
    from tokswap.refit.asked import asked_refit

    said: dict[str, Any] = {
        "base_model": base,
        "donor": donor,
        "methods": _split(methods),
        "train_text": [str(path) for path in train_text] if train_text else None,
        "refit": asked_refit(refit, refit_minutes, refit_written),
        "seed": _seeds(seed),
        "device": device,
        "memory": memory,
        "out": out,
    }
    measured = {
        "text": [str(path) for path in text] if text else None,
        "window": window,
        "stride": stride,
    }
    asked = _asked(recipe, said, measured, sweep or [], settings or [])
    from tokswap.comparison.compare import compare

    compared = compare(asked, fresh=fresh)
    _print(compared, json_output=json_output)


def _asked(
    recipe: Path | None,
    said: dict[str, Any],
    measured: dict[str, Any],
    sweeps: list[str],
    settings: list[str],
) -> "Comparison":
    """Put what the flags say over what the file says.

    Raises:
        RecipeError: If there is neither a file nor a pair, or something is not valid.
    """
    from tokswap.comparison.flags import with_flags, with_sweep
    from tokswap.comparison.recipe import make_comparison, read_comparison

    if recipe is None and (said["base_model"] is None or said["donor"] is None):
        lacking = "--base" if said["base_model"] is None else "--donor"
        raise RecipeError(f"{lacking} is missing; give --base and --donor, or a recipe")
    given = with_flags(read_comparison(recipe) if recipe else {}, said, measured)
    for sweep in sweeps:
        given = with_sweep(given, sweep)
    return make_comparison(given, settings, called=str(recipe or "the comparison"))


def _split(said: list[str] | None) -> list[str] | None:
    return [name.strip() for name in ",".join(said).split(",") if name.strip()] if said else None


def _seeds(said: str | None) -> list[int] | None:
    """Read seeds.

    Raises:
        RecipeError: If they are no whole numbers.
    """
    try:
        return None if said is None else [int(seed) for seed in said.split(",")]
    except ValueError as error:
        raise RecipeError(
            f"--seed {said!r} is no list of whole numbers; give it as 0,1,2"
        ) from error


def _print(compared: "Compared", *, json_output: bool) -> None:
    """Print what came of a comparison, for people or for scripts.

    Raises:
        Exit: If all methods have failed.
    """
    from tokswap.report.comparison import notes, table

    if json_output:
        show.print_json({"out": str(compared.folder), **compared.to_dict()})
    else:
        show.print_table(*table(compared))
        for line in notes(compared):
            typer.echo(line)
        typer.echo(f"wrote {compared.folder}")
    if not compared.results:
        raise typer.Exit(1)
