"""``tokswap hypernet``: networks that predict the rows of any token."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokswap import ranks
from tokswap.cli import show
from tokswap.cli.options import Json, Quiet

if TYPE_CHECKING:
    from tokswap.hypernet.training.train import Trained

hypernet_app = typer.Typer(
    help="Train a network that predicts the rows of any token from the base's own rows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@hypernet_app.command("train")
def train_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, on what, and how long.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Set a value, as steps=500 or optimizer.rate=1e-4."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder to write, in place of the file's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last state that was kept.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where an earlier training lies.")
    ] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a hypernetwork for a base, through the base itself, which stays as it is.

    At each step a tokenizer is sampled from the last few batches of text, the network predicts the
    rows of its tokens, and the frozen base reads the text with them. States are kept as it goes:
    after Ctrl-C or a kill, --resume goes on with the same losses. Several processes share a
    training under `accelerate launch` or `torchrun` (-m tokswap hypernet train CONFIG.yaml).

    Example: tokswap hypernet train recipes/hypernet/tiny.yaml
    """
    show.start(quiet=quiet)
    from tokswap.hypernet.training.recipe import load_train_recipe
    from tokswap.hypernet.training.train import train_hypernet

    recipe = load_train_recipe(config, settings or [], out=out)
    trained = train_hypernet(recipe, resume=resume, overwrite=overwrite)
    if ranks.number():
        return
    if json_output:
        show.print_json(trained.to_dict())
    else:
        _print(trained, recipe.base_model)


@hypernet_app.command("info")
def info_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder, or an id on the Hub.")
    ],
    json_output: Json = False,
) -> None:
    """Tell what a hypernetwork is and which base it is for; no weight is loaded.

    Example: tokswap hypernet info benjamin/zett-hypernetwork-xlm-roberta-base
    """
    from tokswap.hypernet.published import open_published

    said = open_published(checkpoint).to_dict()
    if json_output:
        show.print_json(said)
        return
    tables = "one table for both roles" if said["tied"] else "an embedding and a head"
    languages = said["languages"]
    if isinstance(languages, list):
        languages = ", ".join(languages) or "it is told none"
    lines = {
        "base": said["base"] or "not named",
        "rows": f"of width {said['width']:,}, {tables}",
        "reads": f"{said['base_rows']:,} rows of the base, {said['own_rows']:,} of its own; "
        f"{said['pieces']} pieces of a token",
        "bias": "predicted" if said["predicts_bias"] else "not predicted",
        "languages": languages,
        "size": f"{said['parameters']:,} parameters in {', '.join(said['weights'])}",
        "identity": said["identity"],
    }
    for name, line in lines.items():
        typer.echo(f"{name + ':':<11}{line}")


def _print(trained: "Trained", base: str) -> None:
    if trained.held_out:
        rows = [
            [f"{step:,}", *(f"{figures[k]:.4f}" if k in figures else "–" for k in GROUPS)]
            for step, figures in trained.held_out.items()
        ]
        show.print_table(["behind step", "bits/byte held out", "shared", "new"], rows)
    if trained.last:
        bits = trained.last.bits_per_byte
        shown = "" if bits is None else f" ({bits:.3f} bits/byte)"
        typer.echo(
            f"last loss {trained.last.loss:.4f}{shown}; {trained.waited:.1%} of the time was spent "
            "waiting for tokenizers"
        )
    typer.echo(f"wrote {trained.folder} ({trained.steps:,} steps)")
    typer.echo(
        f"use it: tokswap transplant --base {base} --donor DONOR --method hypernet "
        f"--set method.checkpoint={trained.folder}"
    )


GROUPS = ("all", "shared", "new")
