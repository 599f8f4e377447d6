"""``tokswap transplant`` and ``tokswap run``: the same pipeline, by flags or by a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokswap import progress, ranks
from tokswap.cli import show
from tokswap.cli.options import (
    Base,
    Device,
    DropTensor,
    Json,
    KeepTensor,
    Memory,
    NoEval,
    Quiet,
    Refit,
    RefitMinutes,
    RefitWritten,
    Settings,
    Texts,
)

if TYPE_CHECKING:
    from tokswap.carry_out import Transplant
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
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from what a stopped run to this output had solved.")
]
NoVerify = Annotated[
    bool, typer.Option("--no-verify", help="Do not load the result in a fresh process.")
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Tell what would be fetched, computed and written; write nothing."
    ),
]


def transplant_command(
    base: Base,
    donor: Annotated[
        str | None,
        typer.Option("--donor", "-d", help="Model or bare tokenizer whose vocabulary is adopted."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="In place of a donor: the transplanted base of which --base is a fine-tune.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="With --like: the part of what training changed in its body that is added to "
            "the fine-tune's, 0 to 1. Default: 0.5."
        ),
    ] = None,
    original: Annotated[
        str | None,
        typer.Option(
            help="With --like: the base that it was made of. Default: as its record says."
        ),
    ] = None,
    out: Out = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="How missing rows are filled; see `tokswap methods`."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Rows: as the donor stores them (donor), or no padding (tight)."),
    ] = None,
    pad_to_multiple_of: Annotated[
        int | None, typer.Option(metavar="N", help="Round the rows up to a multiple of this.")
    ] = None,
    settings: Settings = None,
    chat_template: Annotated[
        str | None,
        typer.Option(help="donor, base, none or a .jinja file: whose chat template goes along."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of methods that draw at random.")] = None,
    device: Device = None,
    memory: Memory = None,
    text: Texts = None,
    refit: Refit = None,
    refit_minutes: RefitMinutes = None,
    refit_written: RefitWritten = None,
    bos: Annotated[
        str | None,
        typer.Option(
            metavar="donor|keep",
            help="keep: begin texts with the base's BOS where the donor has none. Default: donor.",
        ),
    ] = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    plan_only: PlanOnly = False,
    dry_run: DryRun = False,
    no_eval: NoEval = False,
    no_verify: NoVerify = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a base model the donor's vocabulary and write the result as a checkpoint.

    Aligns the two vocabularies, plans every new row, writes the base's checkpoint with the new
    tables and the donor's tokenizer, loads it in a fresh process, and measures base and result, and
    the segmentation floor between them: what the changed cut of the text costs with any rows.

    With --like, a fine-tune is given the vocabulary that its base was given, by the same rows; and
    where the transplanted base was trained further, what that changed is added.

    Example: tokswap transplant --base llama --donor mistral --set method.k=32 --out out/swapped

    Example: tokswap transplant --base org/llama-chat --like out/swapped --strength 0.5
    """
    _check_donor(donor, like)
    show.start(quiet=quiet)
    from tokswap.recipe import make_recipe, with_tensors
    from tokswap.refit.asked import asked_refit

    said = {
        "base_model": base,
        "donor": donor,
        "like": like,
        "strength": strength,
        "original": original,
        "method": method,
        "chat_template": chat_template,
        "tokenizer": {
            key: value
            for key, value in (
                ("size", size),
                ("pad_to_multiple_of", pad_to_multiple_of),
                ("bos", bos),
            )
            if value is not None
        },
        "seed": seed,
        "device": device,
        "memory": memory,
        "out": out,
        "eval": eval_of(text, no_eval=no_eval),
        "refit": asked_refit(refit, refit_minutes, refit_written),
        "verify": False if no_verify else None,
    }
    recipe = with_tensors(make_recipe(said, settings or []), keep_tensor, drop_tensor)
    flags = {"overwrite": overwrite, "plan_only": plan_only}
    _transplant(recipe, json_output, dry_run, resume, **flags)


def _check_donor(donor: str | None, like: str | None) -> None:
    """Check that there is something to take the vocabulary from.

    Raises:
        BadParameter: If there is nothing.
    """
    if donor is None and like is None:
        raise typer.BadParameter("is missing; give it, or --like", param_hint="--donor")


def run_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe to run.")],
    settings: Settings = None,
    out: Out = None,
    keep_tensor: KeepTensor = None,
    drop_tensor: DropTensor = None,
    memory: Memory = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    plan_only: PlanOnly = False,
    dry_run: DryRun = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe: `tokswap transplant` with its settings in a YAML file.

    Example: tokswap run recipes/tiny/omp.yaml --set method.k=32
    """
    show.start(quiet=quiet)
    from tokswap.recipe import load_recipe, with_tensors

    said = [f"memory={memory}"] if memory is not None else []
    loaded = load_recipe(recipe, [*(settings or []), *said])
    if out is not None:  # not as a setting, whose value would be read as YAML
        loaded = loaded.model_copy(update={"out": out})
    loaded = with_tensors(loaded, keep_tensor, drop_tensor)
    flags = {"overwrite": overwrite, "plan_only": plan_only}
    _transplant(loaded, json_output, dry_run, resume, **flags)


def _transplant(
    recipe: "Recipe", json_output: bool, dry_run: bool, resume: bool, **flags: bool
) -> None:
    if dry_run and not ranks.number():
        from tokswap.cli.dry_run import print_preview
        from tokswap.preview import preview

        seen = preview(recipe, **flags)
        if json_output:
            show.print_json(seen.to_dict())
        else:
            print_preview(seen)
    if dry_run:
        return
    from tokswap.pipeline import transplant

    result = transplant(recipe, resume=resume, **flags)
    print_result(result, json_output)


def print_result(result: "Transplant", json_output: bool) -> None:
    """Print what came of a transplant, for people or for scripts; of several ranks one does."""
    if ranks.number():
        return
    if json_output:
        show.print_json(result.to_dict())
    else:
        print_transplant(result)


def eval_of(text: list[Path] | None, *, no_eval: bool) -> Any:
    """Say in the words of a recipe what is to be measured."""
    if no_eval:
        return False
    return {"text": [str(path) for path in text]} if text else None


def print_transplant(result: "Transplant") -> None:
    """Print what came of a transplant, or of a plan that was applied."""
    counts = result.record["counts"]
    typer.echo(
        f"{counts['base_size']:,} base rows → {counts['donor_size']:,} new rows: "
        f"{counts['shared']:,} shared, {counts['missing']:,} missing (by {result.recipe.label}), "
        f"{counts['special']} special matched, {counts['special_unmatched']} unmatched"
    )
    print_outcome(result)


def print_outcome(result: "Transplant") -> None:
    """Print what was measured, what the user should know, what was verified, and where it is."""
    from tokswap.refit.report import lines
    from tokswap.report.held_out import held_out_lines

    if about := result.record.get("refit"):
        for line in lines(about):
            typer.echo(line)
    for line in held_out_lines(result.record["held_out"]):
        typer.echo(line)
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
    tokenizer = result.record.get("tokenizer") or {}
    if tokenizer.get("fault"):  # a folder that loads wrongly by the usual line: said last
        typer.echo(f"the tokenizer does not load faithfully by itself: {tokenizer['fault']}")
        typer.echo(f"load it by {tokenizer['load']}")
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in result.seconds.items())
    typer.echo(f"wrote {result.folder} ({seconds})")
