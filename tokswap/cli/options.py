"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
