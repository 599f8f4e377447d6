"""``tokswap apply``: a saved plan onto another model with the same base vocabulary."""

from pathlib import Path
from typing import Annotated

import typer

from tokswap.cli import show
from tokswap.cli.options import (
    Base,
    Device,
    DropTensor,
    Json,
    KeepTensor,
    NoEval,
    Quiet,
    Settings,
    Texts,
)
from tokswap.cli.transplant import NoVerify, Overwrite, eval_of, print_result


def apply_command(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="An output folder, or its plan file.")
    ],
    base: Base,
    donor: Annotated[
        str | None,
        typer.Option(
            "--donor",
            "-d",
            help="Where the donor's tokenizer is. Default: beside the plan, or as the plan says.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder to write. Default: BASE-PLAN, here.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Type of the written vocabulary tensors. Default: as in the base."),
    ] = None,
    settings: Settings = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    device: Device = None,
    text: Texts = None,
    overwrite: Overwrite = False,
    no_eval: NoEval = False,
    no_verify: NoVerify = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Apply a saved plan to a fine-tune, a larger sibling or a quantised copy of its base.

    The base must have the vocabulary that the plan was made for; nothing is solved anew.

    Example: tokswap apply out/swapped --base org/llama-finetune --out out/finetune-swapped
    """
    show.start(quiet=quiet)
    from tokswap.application import apply

    result = apply(
        plan,
        base,
        donor=donor,
        overrides=settings or [],
        overwrite=overwrite,
        out=out,
        dtype=dtype,
        device=device,
        tensors={"keep": keep_tensor or [], "drop": drop_tensor or []},
        eval=eval_of(text, no_eval=no_eval),
        verify=False if no_verify else None,
    )
    print_result(result, json_output)
