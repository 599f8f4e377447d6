"""``tokswap inspect``: what two vocabularies share, and where a token's row comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokswap.cli import show
from tokswap.cli.options import Device, Json, NoEval, Quiet, Settings

if TYPE_CHECKING:
    from tokswap.evaluation.floor import Floor
    from tokswap.evaluation.score import Score
    from tokswap.inspection import Inspection, Source

SHOWN = 12
"""Rows of a combination, or special tokens, that are printed; --json has them all."""


def inspect_command(
    base: Annotated[
        str | None, typer.Option("--base", "-b", help="Model or bare tokenizer to keep.")
    ] = None,
    donor: Annotated[
        str | None, typer.Option("--donor", "-d", help="Model or bare tokenizer to adopt.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="Tell where this token's row comes from.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Output folder or plan file to read the token's row from."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="Method to solve the token's row by.")
    ] = None,
    settings: Settings = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="Text file to count tokens on, and to measure the base on as either cuts it.",
        ),
    ] = None,
    device: Device = None,
    no_eval: NoEval = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two vocabularies, or explain the row of one token.

    Needs no weights, so both may be bare tokenizers; but with --text a base that is a model is
    loaded, to tell the segmentation floor: what it loses by the donor's cut of the text alone,
    whatever the method, and where. --no-eval counts tokens only. With --token the row is read from
    --plan, or solved anew by the method.

    Example: tokswap inspect --base tiny-llama --donor tiny-mistral --token " return"

    Example: tokswap inspect --base tiny-llama --donor tiny-mistral --text notes.txt
    """
    show.start(quiet=quiet)
    from tokswap.inspection import inspect
    from tokswap.recipe import make_recipe

    asked = make_recipe({"base_model": "-", "donor": "-", "method": method}, settings or [])
    found = inspect(
        base,
        donor,
        token=token,
        plan=plan,
        method=asked.method,
        parameters=asked.parameters,
        per_kind=asked.model_dump()["per_kind"],
        tokenizer=asked.tokenizer.model_dump(),
        text=text,
        measured=not no_eval,
        device=device or "auto",
    )
    if json_output:
        show.print_json(found.to_dict())
    elif found.source:
        _print_source(found.source)
    else:
        _print(found)
    for name, count in {} if json_output else found.further.items():
        typer.echo(
            f"{count:,} rows of {name} were trained further: the plan says what they were before"
        )


def _print(found: "Inspection") -> None:
    counts = found.counts
    rows = [
        ["tokens", f"{counts['base_size']:,}", f"{counts['donor_size']:,}"],
        [
            "tokens per byte",
            f"{found.tokens_per_byte['base']:.4f}",
            f"{found.tokens_per_byte['donor']:.4f}",
        ],
        ["digits", found.digits["base"], found.digits["donor"]],
    ]
    if found.own and found.floor:
        bits = (score.bits_per_byte for score in (found.own, found.floor.score))
        rows.append(["the base's bits per byte", *(f"{value:.4f}" for value in bits)])
    show.print_table(["", f"base {found.base}", f"donor {found.donor}"], rows)
    names = {
        "shared": "shared, copied from the base",
        "missing": "missing, for a method to fill",
        "special": "special, with a counterpart",
        "special_unmatched": "special, without one: the mean row",
        "unused": "ids without a token",
    }
    rows = [[name, f"{counts[key]:,}"] for key, name in names.items()]
    show.print_table(["rows of the new vocabulary", ""], rows)
    if found.missing_kinds:
        rows = [[kind, f"{count:,}"] for kind, count in found.missing_kinds.items()]
        show.print_table(["missing tokens by kind", ""], rows)
    matched = [row for row in found.special_tokens if row["base_id"] is not None]
    others = [row for row in found.special_tokens if row["base_id"] is None]
    shown = (matched + others)[:SHOWN]
    rows = [[row["token"], row["base_token"] or "–", row["by"]] for row in shown]
    if rows:
        show.print_table(["special token", "row of", "by"], rows)
    rows = [
        [name, f"{part['count']:,} of {part['rows']:,}", ", ".join(part["first"])]
        for name, part in found.untrained.items()
    ]
    if rows:
        show.print_table(["rows that look untrained", "", "the first"], rows)
    if len(found.special_tokens) > SHOWN:
        typer.echo(f"and {len(found.special_tokens) - SHOWN} more special tokens (--json has all)")
    if found.own and found.floor:
        _print_floor(found.own, found.floor)


def _print_floor(own: "Score", floor: "Floor") -> None:
    """Print what the donor's cut of a text costs the base, and where."""
    from tokswap.cli.evaluate import print_unknown
    from tokswap.report.cut import cut_alone_line

    cut = floor.cut
    rows = [
        [kind, f"{cut.of_bytes[kind]:.1%}", f"{cost:+.4f}"]
        for kind, cost in sorted(cut.kinds.items(), key=lambda item: -item[1])
    ]
    show.print_table(["what the cut costs, by kind of text", "of the bytes", "bits/byte"], rows)
    typer.echo(
        f"{own.bytes:,} bytes of {own.texts[0].name}; window {own.window}, stride {own.stride} "
        f"tokens; {own.dtype}"
    )
    typer.echo(f"{cut_alone_line(cut.to_dict())}, which no initialisation mends")
    for score in (own, floor.score):
        print_unknown(score)


def _print_source(source: "Source") -> None:
    typer.echo(f"{source.token} (id {source.id}): {source.kind}")
    if source.pieces:
        typer.echo("in the base's pieces: " + " ".join(source.pieces))
    same = len(set(source.rows.values())) == 1
    for role, entries in list(source.rows.items())[: 1 if same else None]:
        rows = [[token, f"{weight:+.4f}"] for token, weight in entries[:SHOWN]]
        row = "the row" if same else f"the {role} row"
        if rows:
            show.print_table([f"{row} is the sum of", "weight"], rows)
        else:
            typer.echo(f"{row} is no combination of base rows")
        if len(entries) > SHOWN:
            typer.echo(f"and {len(entries) - SHOWN} more (--json has all)")
