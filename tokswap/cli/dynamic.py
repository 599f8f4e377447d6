"""How ``tokswap eval --dynamic-merges`` prints."""

from typing import TYPE_CHECKING

import typer

from tokswap.cli import show

if TYPE_CHECKING:
    from tokswap.evaluation.dynamic import DynamicEvaluation


def print_dynamic(found: "DynamicEvaluation") -> None:
    """Print the figures of each number of merges as one table."""
    plain = found.results[0].bits_per_byte
    rows = [
        [
            f"{score.merges:,}",
            f"{score.prefix_tokens:.1f}",
            f"{100 * score.shorter:.1f}",
            f"{100 * score.dynamic:.1f}",
            f"{score.bits_per_byte:.4f}",
            f"{score.bits_per_byte / plain:.3f}",
        ]
        for score in found.results
    ]
    head = ["merges", "tokens of a prefix", "shorter, %", "dynamic, %", "bits/byte", "× bits"]
    show.print_table(head, rows)
    merged = "any tokens merge" if found.boundary == "none" else f"merged within {found.boundary}"
    typer.echo(
        f"{found.bytes:,} bytes of {', '.join(found.texts)} scored in {found.windows:,} suffixes "
        f"of up to {found.stride} tokens, each after a prefix of {found.window - found.stride}, in "
        f"batches of {found.batch}; rows by {found.method}, {merged}; {found.dtype}"
    )
    if found.saturated:
        made = found.results[-1].made
        typer.echo(
            f"note: in {found.saturated} of {found.batches} batches nothing was left to merge; "
            f"{made:,.0f} of {found.results[-1].merges:,} merges were made in the mean"
        )
