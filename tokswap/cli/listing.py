"""``tokswap methods`` and ``tokswap models``: what there is."""

from typing import Annotated, Any

import typer

from tokswap.cli import show
from tokswap.cli.options import Json
from tokswap.errors import RecipeError

Name = Annotated[
    str | None, typer.Argument(metavar="[METHOD]", help="Tell of this one, setting by setting.")
]


def methods_command(method: Name = None, json_output: Json = False) -> None:
    """List the methods that fill missing rows, with their settings and papers.

    Example: tokswap methods omp
    """
    from tokswap.methods import DEFAULT, METHODS

    asked = method
    if asked is not None:
        _check_name(asked)
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
        if asked in {None, name}
    ]
    if json_output:
        show.print_json({"methods": said})
        return
    for entry in said:
        settings = ", ".join(f"{key}={_plain(value)}" for key, value in entry["settings"].items())
        donor = "a model" if entry["needs_donor_weights"] else "a bare tokenizer will do"
        typer.echo(f"{entry['name']}{' (default)' if entry['default'] else ''}")
        typer.echo(f"    {entry['summary']}")
        if asked is None and settings:
            donor += f"; settings: {settings}"
        typer.echo(f"    donor: {donor}")
        typer.echo(f"    {entry['paper']}")
    if asked is not None:
        _tell_settings(asked)
    typer.echo("Settings: --set method.NAME=VALUE; for one role --set method.input.NAME=VALUE")
    typer.echo("or --set method.output.NAME=VALUE.")
    if asked is None:
        typer.echo("What a method's settings mean: tokswap methods METHOD.")


def _check_name(method: str) -> None:
    """Check that there is a method of a name.

    Raises:
        RecipeError: If there is none.
    """
    from tokswap.methods.asked import name_fault

    if fault := name_fault(method):
        raise RecipeError(fault)


def _tell_settings(method: str) -> None:
    """Print what a method's settings are for."""
    from tokswap.methods import METHODS
    from tokswap.report.keys import cells

    for key, field in METHODS[method].model_fields.items():
        name, values, default, meaning = (cell.replace("`", "") for cell in cells(key, field))
        typer.echo(f"  {name}: {values}" + ("" if default == "–" else f" ({default})"))
        typer.echo(f"    {meaning}")


def _plain(value: Any) -> str:
    """Write a value as `--set` takes it; of methods within a method, their names."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return str(value.get("method", value))
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


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
