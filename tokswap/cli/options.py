"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

REFIT = "Refit"
"""Heading of its options in the help."""

Base = Annotated[
    str,
    typer.Option(
        "--base", "-b", help="Model whose body is kept: alias, Hub id, folder or bundled."
    ),
]
Donor = Annotated[
    str,
    typer.Option("--donor", "-d", help="Model or bare tokenizer whose vocabulary is adopted."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a recipe value, as method.k=32 or eval.window=256."
    ),
]
Texts = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Text file to measure on; repeatable. Default: a bundled sample."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps. Default: auto.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What omp and hypernet may take at once, as 4GB or 512MB. Default: half of what "
        "there is.",
    ),
]
Refit = Annotated[
    list[str] | None,
    typer.Option(
        "--refit",
        metavar="TEXT",
        help="Text file to which the new rows are then refitted, the body frozen; repeatable. "
        "Half a megabyte is a good size.",
        rich_help_panel=REFIT,
    ),
]
RefitMinutes = Annotated[
    float | None,
    typer.Option(
        "--refit-minutes",
        metavar="MINUTES",
        min=0,
        help="With --refit: minutes in which input rows learn to lead to the states that the "
        "tokens' pieces lead to. Default: 0.",
        rich_help_panel=REFIT,
    ),
]
RefitWritten = Annotated[
    int | None,
    typer.Option(
        "--refit-written",
        metavar="N",
        min=1,
        help="Without a text: refit to N tokens that the base writes itself.",
        rich_help_panel=REFIT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NoEval = Annotated[bool, typer.Option("--no-eval", help="Do not measure.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
KeepTensor = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-tensor",
        metavar="NAME",
        help="Carry as it is this tensor that nobody knows; repeatable.",
    ),
]
DropTensor = Annotated[
    list[str] | None,
    typer.Option(
        "--drop-tensor",
        metavar="NAME",
        help="Leave out this tensor that the model does not load; repeatable.",
    ),
]
