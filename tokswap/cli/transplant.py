"""``tokswap transplant`` and ``tokswap run``: the same pipeline, by flags or by a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokswap import progress
from tokswap.cli import show
from tokswap.cli.options import (
    Base,
    Device,
    Donor,
    DropTensor,
    Json,
    KeepTensor,
    Quiet,
    Settings,
    Texts,
)

if TYPE_CHECKING:
    from tokswap.pipeline import Transplant
    from tokswap.recipe import Recipe

Out = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Folder to write. Default: BASE-DONOR-METHOD, here."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier output at the same place.")
]
PlanOnly = Annotated[
    bool, typer.Option("--plan-only", help="Stop after the plan: write it, and no weights.")
]


def transplant_command(
    base: Base,
    donor: Donor,
    out: Out = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="How missing rows are filled; see `tokswap methods`."),
    ] = None,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Seed of methods that draw at random.")] = None,
    device: Device = None,
    text: Texts = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    overwrite: Overwrite = False,
    plan_only: PlanOnly = False,
    no_eval: Annotated[bool, typer.Option("--no-eval", help="Do not measure.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not load the result in a fresh process.")
    ] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a base model the donor's vocabulary and write the result as a checkpoint.

    Aligns the two vocabularies, plans every new row, writes the base's checkpoint with the new
    tables and the donor's tokenizer, loads it in a fresh process, and measures base and result.

    Example: tokswap transplant --base llama --donor mistral --set method.k=32 --out out/swapped
    """
    show.start(quiet=quiet)
    from tokswap.recipe import make_recipe, with_tensors

    said = {
        "base_model": base,
        "donor": donor,
        "method": method,
        "seed": seed,
        "device": device,
        "out": out,
        "eval": False if no_eval else ({"text": [str(path) for path in text]} if text else None),
        "verify": False if no_verify else None,
    }
    recipe = with_tensors(make_recipe(said, settings or []), keep_tensor, drop_tensor)
    _transplant(recipe, overwrite, plan_only, json_output)


def run_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe to run.")],
    settings: Settings = None,
    out: Out = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    overwrite: Overwrite = False,
    plan_only: PlanOnly = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe: `tokswap transplant` with its settings in a YAML file.

    Example: tokswap run recipes/tiny/omp.yaml --set method.k=32
    """
    show.start(quiet=quiet)
    from tokswap.recipe import load_recipe, with_tensors

    loaded = load_recipe(recipe, settings or [])
    if out is not None:  # not as a setting, whose value would be read as YAML
        loaded = loaded.model_copy(update={"out": out})
    loaded = with_tensors(loaded, keep_tensor, drop_tensor)
    _transplant(loaded, overwrite, plan_only, json_output)


def _transplant(recipe: "Recipe", overwrite: bool, plan_only: bool, json_output: bool) -> None:
    from tokswap.pipeline import transplant

    result = transplant(recipe, overwrite=overwrite, plan_only=plan_only)
    if json_output:
        show.print_json(result.to_dict())
    else:
        _print(result)


def _print(result: "Transplant") -> None:
    counts = result.record["counts"]
    typer.echo(
        f"{counts['base_size']:,} base rows → {counts['donor_size']:,} new rows: "
        f"{counts['shared']:,} shared, {counts['missing']:,} missing (by {result.recipe.method}), "
        f"{counts['special']} special matched, {counts['special_unmatched']} unmatched"
    )
    if result.evaluation:
        from tokswap.cli.evaluate import print_scores

        print_scores(result.evaluation)
    if not progress.shown():  # else they stand on stderr already
        for warning in result.warnings:
            typer.echo(f"note: {warning}")
    verified = result.record.get("verified")
    if verified:
        loads = f"{verified['tokenizer_class']} reads the tokenizer"
        if verified["model_class"]:
            loads = f"{verified['model_class']} with {verified['tokenizer_class']} loads"
        typer.echo(
            f"verified: {loads} in a fresh process; {verified['copied_rows']:,} copied rows are "
            "bit-identical"
        )
        if verified["generated"]:
            typer.echo(f"it speaks: {verified['prompt']!r} … {verified['generated']!r}")
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in result.seconds.items())
    typer.echo(f"wrote {result.folder} ({seconds})")
