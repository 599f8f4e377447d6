"""``tokswap held-out``: anchors are made of the other anchors, and compared with what they are."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokswap.cli import show
from tokswap.cli.options import Base, Device, Donor, Json, Memory, Quiet, Settings
from tokswap.errors import RecipeError

if TYPE_CHECKING:
    from tokswap.held_out import HeldOut

NAMES = {
    "method": "by {method}",
    "mean_row": "the mean row",
    "other_anchor": "any other anchor",
}
"""What is compared, for people."""


def held_out_command(
    base: Base,
    donor: Donor,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="One that reads the donor's weights. Default: omp-pieces."
        ),
    ] = None,
    settings: Settings = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", help="Anchors to hold out. Default: 256.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Hold out every anchor once, a tenth of them at a time.")
    ] = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="KEY=V1,V2,...",
            help="Compare values of a setting of the method, as k=4,8,16; the best is marked.",
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="Worst and best tokens that are printed.")
    ] = 5,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of anchors.")] = None,
    device: Device = None,
    memory: Memory = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell how well rows carry over from the donor to the base, before anything is written.

    Anchors, whose true rows are known in both models, are taken for missing and filled from the
    other anchors. What to look at is the cosine without the mean in the base: the higher, the more
    of a token's own part was carried over; that of any other anchor is chance. A high cosine in the
    donor alone says that the method describes the donor well, and no more.

    Example: tokswap held-out --base tiny-llama --donor tiny-mistral --sweep k=2,4,8,16,32,64
    """
    show.start(quiet=quiet)
    from tokswap.held_out import hold_out_each
    from tokswap.recipe import make_recipe

    said: dict[str, Any] = {
        "base_model": base,
        "donor": donor,
        "method": method,
        "held_out": _count(count, everything=everything),
        "seed": seed,
        "device": device,
        "memory": memory,
    }
    if sweep is None:
        found = hold_out_each([make_recipe(said, settings or [])])[0]
        if json_output:
            show.print_json(found.to_dict())
        else:
            _print(found, worst)
        return
    key, values = _values(sweep)
    recipes = [make_recipe(said, [*(settings or []), f"method.{key}={v}"]) for v in values]
    results = hold_out_each(recipes)
    if json_output:
        each = zip(values, results, strict=True)
        show.print_json({"key": key, "values": [{"value": v, **r.to_dict()} for v, r in each]})
    else:
        _print_sweep(key, values, results)


def _count(count: int | None, *, everything: bool) -> int | str | None:
    """Say in the words of a recipe how many anchors to hold out.

    Raises:
        RecipeError: If both a number and all of them are asked for.
    """
    if everything and count is not None:
        raise RecipeError("both --all and --count were given; give one of them")
    return "all" if everything else count


def _values(sweep: str) -> tuple[str, list[str]]:
    """Read what is to be compared.

    Raises:
        RecipeError: If it is not of the form KEY=V1,V2.
    """
    key, _, said = sweep.partition("=")
    values = [value.strip() for value in said.split(",") if value.strip()]
    if not key or not values:
        raise RecipeError(f"--sweep {sweep!r} is not of the form KEY=V1,V2; give it as k=4,8,16")
    return key.removeprefix("method."), values


def _print(found: "HeldOut", worst: int) -> None:
    from tokswap.report.held_out import held_out_doubts

    summary = found.summary()
    for role, said in summary.items():
        folds = f", in {said['folds']} parts" if said["folds"] > 1 else ""
        rows = [
            [f"{side}: {name.format(method=found.recipe.label)}", *_cells(said[side][key])]
            for side in ("donor", "base")
            for key, name in NAMES.items()
            if said[side][key]
        ]
        kind = "tied" if found.tied else f"{role} rows"
        title = f"{said['held_out']:,} of {said['anchors']:,} anchors held out ({kind}){folds}"
        head = ["", "cosine", "lower … upper", "without the mean", "lower … upper"]
        show.print_table([*head, "relative error", "lower … upper"], rows, title=title)
    for role in found.roles:
        tokens = found.tokens(role)
        shown = min(worst, len(tokens) // 2)
        for name, some in (("best", tokens[:shown]), ("worst", tokens[len(tokens) - shown :])):
            kind = "" if found.tied else f", {role} rows"
            _print_tokens(f"the {name} in the base{kind}", some)
    for doubt in held_out_doubts(summary):
        typer.echo(f"note: {doubt}")


def _print_tokens(title: str, tokens: list[dict[str, Any]]) -> None:
    sides = ("donor", "base")
    rows = [
        [
            said["token"],
            str(said["id"]),
            *(f"{said[side]['centered_cosine']:.3f}" if said[side] else "–" for side in sides),
            *(f"{said[side]['relative_error']:.3f}" if said[side] else "–" for side in sides),
        ]
        for said in tokens
    ]
    if rows:
        head = [title, "id", "cosine without the mean: donor", "base", "error: donor", "base"]
        show.print_table(head, rows)


def _print_sweep(key: str, values: list[str], results: "list[HeldOut]") -> None:
    summaries = [found.summary() for found in results]
    for role in results[0].roles:
        parts = [summary[role] for summary in summaries]
        own = [part["base"]["method"]["centered_cosine"]["mean"] for part in parts]
        rows = [
            [
                value,
                _mean(part["donor"]["method"], "cosine"),
                _mean(part["base"]["method"], "cosine"),
                _mean(part["base"]["method"], "centered_cosine"),
                _mean(part["base"]["method"], "relative_error"),
                "best" if own.index(max(own)) == place else "",
            ]
            for place, (value, part) in enumerate(zip(values, parts, strict=True))
        ]
        first = parts[0]["base"]
        for name in ("mean_row", "other_anchor"):
            figures = [_mean(first[name], f) for f in ("cosine", "centered_cosine")]
            error = _mean(first[name], "relative_error")
            rows.append([NAMES[name], "–", *figures, error, ""])
        kind = "tied" if results[0].tied else f"{role} rows"
        title = f"{parts[0]['held_out']:,} of {parts[0]['anchors']:,} anchors held out ({kind})"
        head = [key, "cosine in the donor", "in the base", "without the mean", "relative error", ""]
        show.print_table(head, rows, title=title)
    typer.echo("the best has the highest cosine without the mean in the base")


def _mean(figures: Any, name: str) -> str:
    return f"{figures[name]['mean']:.3f}" if figures else "–"


def _cells(figures: Any) -> list[str]:
    return [
        cell
        for said in figures.values()
        for cell in (f"{said['mean']:.3f}", f"{said['lower']:.3f} … {said['upper']:.3f}")
    ]
