"""``tokswap methods`` and ``tokswap models``: what there is."""

from typing import Any

import typer

from tokswap.cli import show
from tokswap.cli.options import Json


def methods_command(json_output: Json = False) -> None:
    """List the methods that fill missing rows, with their settings and papers."""
    from tokswap.methods import DEFAULT, METHODS

    said: list[dict[str, Any]] = [
        {
            "name": name,
            "default": name == DEFAULT,
            "summary": kind.summary,
            "paper": kind.paper,
            "needs_donor_weights": kind().needs_donor,
            "settings": kind().model_dump(mode="json"),
        }
        for name, kind in METHODS.items()
    ]
    if json_output:
        show.print_json({"methods": said})
        return
    for method in said:
        settings = ", ".join(f"{key}={value}" for key, value in method["settings"].items())
        donor = "a model" if method["needs_donor_weights"] else "a bare tokenizer will do"
        typer.echo(f"{method['name']}{' (default)' if method['default'] else ''}")
        typer.echo(f"    {method['summary']}")
        typer.echo(f"    donor: {donor}{f'; settings: {settings}' if settings else ''}")
        typer.echo(f"    {method['paper']}")
    typer.echo("Settings: --set method.NAME=VALUE; for one role --set method.input.NAME=VALUE")
    typer.echo("or --set method.output.NAME=VALUE.")


def models_command(json_output: Json = False) -> None:
    """List the names that --base and --donor know: bundled models and aliases."""
    from tokswap.names import BUNDLED, aliases_file, known_aliases

    bundled = [{"name": name, "about": about, "from": "bundled"} for name, about in BUNDLED.items()]
    aliases = [
        {"name": name, "about": target, "from": origin}
        for name, (target, origin) in known_aliases().items()
    ]
    if json_output:
        show.print_json({"models": bundled + aliases, "aliases_file": str(aliases_file())})
        return
    rows = [[row["name"], row["about"], row["from"]] for row in bundled + aliases]
    show.print_table(["name", "stands for", "from"], rows)
    typer.echo("Any Hub id (org/model, org/model@revision) or local folder will do as well.")
    typer.echo(f"Your own aliases, `name: target` lines, go into {aliases_file()}.")
