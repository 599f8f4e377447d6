"""``tokswap extend``: more tokens for a model's own tokenizer, and rows for them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokswap import ranks
from tokswap.cli import show
from tokswap.cli.options import Device, DropTensor, Json, KeepTensor, NoEval, Quiet, Settings
from tokswap.cli.transplant import NoVerify, Overwrite, print_outcome

if TYPE_CHECKING:
    from tokswap.carry_out import Transplant

SHOWN = 5
"""Tokens that are printed of a list; --json has them all."""


class As(StrEnum):
    """How new tokens are found in a text."""

    MERGES = "merges"
    ADDED = "added"


def extend_command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Model to extend: alias, Hub id, folder or bundled."),
    ],
    tokens: Annotated[
        Path,
        typer.Option(
            "--tokens",
            "-t",
            metavar="FILE",
            help='The new tokens, one a line, spaces count; "…" is a JSON string.',
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder to write. Default: MODEL-extended, here."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="How new rows are filled; see `tokswap methods`. Default: pieces, suited.",
        ),
    ] = None,
    settings: Settings = None,
    how: Annotated[
        As,
        typer.Option(
            "--as",
            help="merges: the tokenizer's model makes them; added: they are found in the raw text.",
        ),
    ] = As.MERGES,
    inside_words: Annotated[
        bool,
        typer.Option(
            "--inside-words",
            help="Add all tokens that merges need on the way, also where whole words need none.",
        ),
    ] = False,
    skip: Annotated[
        bool,
        typer.Option("--skip", help="Leave out what cannot be added, and tell of it."),
    ] = False,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            help="Text file to count the new tokens and to measure on; repeatable. "
            "Default: a bundled sample.",
        ),
    ] = None,
    pad_to_multiple_of: Annotated[
        int | None, typer.Option(metavar="N", help="Round the rows up to a multiple of this.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of methods that draw at random.")] = None,
    device: Device = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    overwrite: Overwrite = False,
    no_eval: NoEval = False,
    no_verify: NoVerify = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add tokens to a model's own tokenizer, and rows for them to the model.

    Every token keeps its id and its row; new ones come behind. Counts how often each fires on a
    text, loads the result in a fresh process, and measures it beside the model.

    Example: tokswap extend llama --tokens words.txt --text notes.txt --out out/llama-words
    """
    show.start(quiet=quiet)
    from tokswap.extension import extend

    padding = {"pad_to_multiple_of": pad_to_multiple_of} if pad_to_multiple_of is not None else None
    result = extend(
        model,
        tokens,
        how=how.value,
        inside=inside_words,
        skip=skip,
        texts=text or [],
        overrides=settings or [],
        overwrite=overwrite,
        out=out,
        method=method,
        tokenizer=padding,
        seed=seed,
        device=device,
        tensors={"keep": keep_tensor or [], "drop": drop_tensor or []},
        eval=False if no_eval else None,
        verify=False if no_verify else None,
    )
    if ranks.number():
        return
    if json_output:
        show.print_json(result.to_dict())
    else:
        _print(result)


def _print(result: "Transplant") -> None:
    said = result.record["extended"]
    firing, counts = said["firing"], result.record["counts"]
    tokens, more = len(said["tokens"]), len(said["intermediates"])
    kinds = [f"{said['merges']:,} merges"] if said["merges"] else []
    kinds += [f"{more:,} tokens on the way"] if more else []
    by = f" by {' and '.join(kinds)}" if kinds else ""
    old, new = counts["base_size"], counts["donor_size"]
    rows = f"{old:,} → {new:,} rows" if new > old else f"in {old:,} rows as before"
    label = result.recipe.label
    typer.echo(f"{tokens:,} new tokens{by}: {rows}, new ones by {label}")
    per_byte = firing["tokens_per_byte"]
    typer.echo(
        f"{firing['fire']:,} of {tokens:,} fire on {' and '.join(firing['texts'])}, "
        f"{sum(firing['counts'].values()):,} times; tokens per byte {per_byte['before']:.4f} → "
        f"{per_byte['after']:.4f}"
    )
    if firing["elsewhere"]:
        typer.echo(
            f"{firing['elsewhere']:,} of {firing['changed']:,} places that are cut otherwise than "
            "before hold none of them"
        )
    rare = sorted(firing["counts"].items(), key=lambda entry: -entry[1])
    often = [f"{token!r} {count:,}" for token, count in rare[:SHOWN] if count]
    if often:
        typer.echo(f"most often: {', '.join(often)}")
    silent = firing["silent"]
    for token, why in list(silent.items())[:SHOWN]:
        typer.echo(f"never: {token!r}, {_reason(why)}")
    if len(silent) > SHOWN:
        typer.echo(f"and {len(silent) - SHOWN:,} more never do (--json has all)")
    print_outcome(result)


def _reason(why: dict[str, Any]) -> str:
    if why["occurs"] is None:
        return "not looked for in so much text"
    if not why["occurs"]:
        return "which does not occur"
    times = "once" if why["occurs"] == 1 else f"{why['occurs']:,} times"
    return f"which occurs {times}, first in {' '.join(why['cut'])}"
