"""``tokswap check``: can this model draft for that one?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokswap.cli import show
from tokswap.cli.options import Device, Json, Quiet
from tokswap.errors import EvaluationError

if TYPE_CHECKING:
    from tokswap.evaluation.draft import DraftCheck


class Engine(StrEnum):
    """A way of drafting that can be required."""

    TRANSFORMERS = "transformers"
    UNIVERSAL = "transformers-universal"
    VLLM = "vllm"
    TLI = "vllm-tli"
    LLAMA_CPP = "llama.cpp"


def check_command(
    draft: Annotated[str, typer.Argument(metavar="DRAFT", help="The model that proposes tokens.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The model that accepts or refuses them.")
    ],
    text: Annotated[
        Path | None,
        typer.Option("--text", help="Text file to cut prompts from. Default: a bundled sample."),
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts to continue.")] = 8,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate for each prompt.")] = 64,
    draft_tokens: Annotated[
        int, typer.Option("--draft-tokens", min=1, help="Tokens that are proposed at a time.")
    ] = 5,
    device: Device = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Answer by the rules alone; needs no weights.")
    ] = False,
    require: Annotated[
        list[Engine] | None,
        typer.Option("--require", help="Exit with 1 if this engine says no; repeatable."),
    ] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell whether a model can draft for another, and how many of its proposals are accepted.

    Speculative decoding: a small model proposes tokens, a large one accepts or refuses them. The
    rules of transformers, vLLM and llama.cpp are answered by the files beside the weights; the
    acceptance is measured greedily in transformers' own loop.

    Example: tokswap check out/draft big-model --require vllm
    """
    show.start(quiet=quiet)
    from tokswap.evaluation.draft import check

    found = check(
        draft,
        target,
        text=text,
        prompts=prompts,
        tokens=tokens,
        draft_tokens=draft_tokens,
        device=device or "auto",
        measure=not no_measure,
    )
    if json_output:
        show.print_json(found.to_dict())
    else:
        _print(found)
    for engine in require or []:
        _require(found, engine)


def _require(found: "DraftCheck", engine: str) -> None:
    """Make an error of a no.

    Raises:
        EvaluationError: If it is one.
    """
    verdict = found.verdict(engine)
    if not verdict.yes:
        raise EvaluationError(
            f"{found.draft} cannot draft for {found.target} by the rules of {engine}: "
            f"{verdict.reason}; {verdict.advice}"
        )


def _print(found: "DraftCheck") -> None:
    from tokswap.evaluation.draft_rules import ENGINES, NOT_RUN

    rows = [
        [
            ENGINES[verdict.engine] + ("*" if verdict.rule == NOT_RUN else ""),
            "yes" if verdict.yes else "no",
            verdict.reason,
        ]
        for verdict in found.verdicts
    ]
    show.print_table([f"{found.draft} drafts for {found.target} in", "", "because"], rows)
    typer.echo(f"* by its {NOT_RUN}")
    # Both tokenizers need to be given only where one does not do, whose advice is the better one.
    refusals = [v for v in found.verdicts if not v.yes and v.engine != Engine.UNIVERSAL]
    for said in dict.fromkeys(verdict.advice for verdict in refusals):
        typer.echo(f"to do: {said}")
    if found.acceptance is None:
        typer.echo(f"acceptance: not measured ({found.unmeasured})")
        return
    figures = found.acceptance
    typer.echo(
        f"acceptance: {figures.rate:.1%} of {figures.proposed:,} proposed tokens, "
        f"{figures.accepted_per_draft:.2f} of {figures.draft_tokens} at a time; "
        f"{figures.tokens_per_pass:.2f} tokens for each pass of {found.target}"
    )
    typer.echo(
        f"greedily with {ENGINES[str(found.way)]}: {figures.generated:,} tokens after "
        f"{figures.prompts} prompts of {found.text}, {figures.seconds:.1f} s with the draft and "
        f"{figures.seconds_alone:.1f} s without"
    )
    if figures.unlike:
        typer.echo(
            f"note: {figures.unlike} of {figures.prompts} continuations differ from those of "
            f"{found.target} alone; greedy drafting changes them by rounding only"
        )
