"""How ``--dry-run`` is printed: what would be fetched, computed and written, and where."""

from typing import TYPE_CHECKING

import typer

from tokswap.cli import show

if TYPE_CHECKING:
    from tokswap.preview import Preview
    from tokswap.refit.ahead import Ahead


def print_preview(seen: "Preview") -> None:
    """Print what a transplant would do."""
    expected, counts = seen.estimate, seen.estimate.counts
    models = {
        "base": seen.recipe.base_model,
        "donor": seen.recipe.adopted,
        "original": seen.recipe.original,
    }
    rows = [
        [
            f"{fetch.model} {models[fetch.model]}",
            fetch.file,
            fetch.tensor or "whole",
            in_bytes(fetch.bytes),
        ]
        for fetch in expected.fetches
    ]
    if rows:
        show.print_table(["fetch from", "file", "part", "bytes"], rows)
    typer.echo(f"fetch: {in_bytes(expected.fetched)}" if rows else "fetch: nothing")
    settings = ", ".join(f"{key}={value}" for key, value in seen.recipe.parameters.items())
    typer.echo(
        f"compute: {counts['base_size']:,} base rows → {counts['donor_size']:,} new rows: "
        f"{counts['shared']:,} shared, {counts['missing']:,} missing "
        f"(by {seen.recipe.label}{f' with {settings}' * bool(settings)})"
    )
    if seen.refit is not None:
        typer.echo(_refit_line(seen.refit))
    rows = [
        [
            table.name,
            f"{'×'.join(map(str, table.old_shape))} → {'×'.join(map(str, table.shape))}",
            table.dtype,
            f"{in_bytes(table.old_bytes)} → {in_bytes(table.bytes)}",
        ]
        for table in expected.tables
    ]
    show.print_table(["table", "shape", "type", "bytes"], rows)
    stages = ", ".join(f"{stage} {in_bytes(size)}" for stage, size in expected.memory.items())
    typer.echo(f"memory at the peak, about: {in_bytes(max(expected.memory.values()))} ({stages})")
    rows = [[name, in_bytes(size)] for name, size in expected.writes.items()]
    show.print_table([f"write to {seen.out}", "bytes"], rows)
    typer.echo(f"write: {in_bytes(expected.written)}")
    for disk in seen.disks:
        room = "has room" if disk.enough else "HAS TOO LITTLE ROOM"
        typer.echo(
            f"the disk of {disk.folder} ({disk.purpose}) {room}: {in_bytes(disk.needed)} of "
            f"{in_bytes(disk.free)} free"
        )
    for path in seen.leftovers:
        typer.echo(f"note: {path} was left by another run, or is being written by one")
    for warning in seen.warnings:
        typer.echo(f"note: {warning}")
    typer.echo("dry run: nothing was written")


def _refit_line(refit: "Ahead") -> str:
    new = f"of {refit.missing:,} new tokens those that it holds"
    if refit.seen is not None:
        new = f"{refit.seen:,} of {refit.missing:,} new tokens, {refit.times:,} times"
    kept = f"; its states take up to {in_bytes(refit.bytes)} beside the output meanwhile"
    return (
        f"refit: to about {refit.tokens:,} tokens of {', '.join(refit.text)}: {new}"
        f"{kept * bool(refit.bytes)}"
    )


def in_bytes(count: int) -> str:
    """Write a number of bytes for people."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
