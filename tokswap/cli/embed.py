"""``tokswap embed``: any text as one token: its rows, and which tokens are near."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokswap.cli import show
from tokswap.cli.options import Device, Json, Quiet, Settings

if TYPE_CHECKING:
    from tokswap.on_demand.describe import Embedded, TokenReport

MANY = 8
"""Pieces from which on a row says little of its text."""


def embed_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Alias, Hub id, folder or bundled.")
    ],
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...", help="Texts as they are, each taken as one token: ' new' is not new."
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="What fills the rows of other texts. Default: pieces; with a donor omp-pieces.",
        ),
    ] = None,
    settings: Settings = None,
    donor: Annotated[
        str | None,
        typer.Option(
            "--donor", "-d", help="Model whose weights the method reads; it must have the tokens."
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=0, help="Base tokens that are listed for each row.")
    ] = 5,
    seed: Annotated[int | None, typer.Option(help="Seed of methods that draw at random.")] = None,
    device: Device = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give any text the rows of a token, and tell what they are like.

    A token that the model has keeps its own rows; others are filled by the method. The neighbours
    are the model's tokens whose rows are nearest by angle. Nothing is written.

    Example: tokswap embed tiny-llama " tokenizer" " def" --method pieces --set method.strategy=last
    """
    show.start(quiet=quiet)
    from tokswap.on_demand.describe import embed
    from tokswap.on_demand.embedder import asked_recipe

    said = {"method": method, "seed": seed, "device": device}
    recipe = asked_recipe(model, donor, said, settings or [])
    found = embed(model, *texts, donor=donor, neighbours=neighbours, recipe=recipe)
    if json_output:
        show.print_json(found.to_dict())
    else:
        _print(found)


def _print(found: "Embedded") -> None:
    for token in found.tokens:
        typer.echo(f"{token.text}: {_said(token, found)}")
        rows = [
            [
                "both roles" if len(token.roles) == 1 else role,
                f"{row.norm:.3f}",
                f"{found.mean_norms[role]:.3f}",
                ", ".join(f"{near.token} {near.cosine:.2f}" for near in row.neighbours) or "–",
            ]
            for role, row in token.roles.items()
        ]
        head = ["row", "norm", f"mean norm of {found.model}", "nearest tokens, by cosine"]
        show.print_table(head, rows)
        if token.bias is not None:
            typer.echo(f"bias of the head: {token.bias:+.3f}")
        if token.id is None and len(token.pieces) >= MANY:
            typer.echo(
                f"note: {token.text} is {len(token.pieces)} pieces long; one row cannot say as "
                "much as they do, so expect little of it"
            )
        if token.special is not None:
            typer.echo(
                f"note: {token.text} is written like the special token {token.special}; these are "
                "the rows of the text"
            )


def _said(token: "TokenReport", found: "Embedded") -> str:
    if token.id is not None:
        return f"token {token.id} of {found.model}, its own row"
    if not token.pieces:
        return f"no token of {found.model}, which cannot write it; by {found.method}"
    pieces = " ".join(piece for _, piece in token.pieces)
    return f"no token of {found.model}, which cuts it into {pieces}; by {found.method}"
