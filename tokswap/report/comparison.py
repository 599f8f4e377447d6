"""A comparison as a table for people, and as CSV for spreadsheets."""

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokswap.comparison.figures import group_bits, rounded
from tokswap.report.cut import cut_alone_line

if TYPE_CHECKING:
    from tokswap.comparison.compare import Compared
    from tokswap.comparison.figures import Result

OWN, FLOOR = "the base on its own cut", "the segmentation floor"
COLUMNS = (
    "kind",
    "method",
    "label",
    "bits_per_byte",
    "spread",
    "over_floor",
    "shared",
    "new",
    "seconds",
    "evaluation_seconds",
    "peak_memory",
    "refitted",
    "refitted_over_floor",
    "refit_seconds",
    "tokens",
    "seeds",
    "error",
)
"""Of the CSV. ``kind`` is own, floor, method or failed; ``shared`` and ``new``: bits per byte."""


def table(compared: "Compared") -> tuple[list[str], list[list[str]]]:
    """Give the head and the rows of the table: own cut and floor above, then the best first."""
    floor = compared.floor["bits_per_byte"]
    spread = any(result.spread is not None for result in compared.results)
    head = ["method", "bits/byte", "±", "over floor", "shared", "new", "seconds", "peak MB"]
    rows = [_reference(OWN, compared.own, floor), _reference(FLOOR, compared.floor, floor)]
    rows += [
        [
            result.label,
            f"{result.bits_per_byte:.4f}",
            "" if result.spread is None else f"{result.spread:.4f}",
            f"{result.bits_per_byte - floor:+.4f}",
            _bits(result.group("shared")),
            _bits(result.group("new")),
            f"{result.seconds:.1f}",
            _megabytes(result.peak_memory),
        ]
        for result in compared.results
    ]
    if not spread:
        head, rows = [c for c in head if c != "±"], [row[:2] + row[3:] for row in rows]
    if any(result.refit is not None for result in compared.results):
        head += ["refitted", "over floor", "shared", "new"]
        refitted = [_refitted(result, floor) for result in compared.results]
        rows = [row + more for row, more in zip(rows, [[""] * 4] * 2 + refitted, strict=True)]
    return head, rows


def notes(compared: "Compared") -> list[str]:
    """Say below the table what it was measured on, what failed, and how to read it."""
    about, own = compared.about, compared.own
    floor = compared.floor
    groups = floor["groups"]
    lines = [
        f"{own['bytes']:,} bytes of {', '.join(about['text'])}; window {about['window']}, stride "
        f"{about['stride']} tokens; {own['tokens']:,} tokens as the base cuts it"
    ]
    if compared.results:
        new = compared.results[0].figures["groups"].get("new")
        tokens = compared.results[0].figures["tokens"]
        if new:
            lines[0] += f", {tokens:,} as the donor does, {new['tokens']:,} of them new"
    elif groups:
        lines[0] += f", {groups['new']['tokens']:,} new ones as the donor does"
    said = cut_alone_line(compared.cut.to_dict())
    lines.append(f"{said}; what is over the floor is the rows'")
    if about.get("seen_before"):
        lines.append(f"note: {about['seen_before']}")
    if earlier := sum(result.earlier for result in compared.results):
        lines.append(
            f"{earlier} of {len(compared.results)} are from an earlier run; --fresh measures anew"
        )
    lines += [f"failed: {failure.label}: {failure.error}" for failure in compared.failures]
    return lines


def as_csv(compared: "Compared") -> str:
    """Give the same as CSV, with the failures; see :data:`COLUMNS`."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for kind, figures in (("own", compared.own), ("floor", compared.floor)):
        over = rounded(figures["bits_per_byte"] - compared.floor["bits_per_byte"])
        writer.writerow({"kind": kind, "label": kind, "over_floor": over, **_figures(figures)})
    for result in compared.results:
        said = result.to_dict(compared.floor)
        row = {name: said.get(name) for name in COLUMNS if name in said}
        if result.refit is not None:
            row["refitted"] = result.refitted
            row["refitted_over_floor"] = said["refit"]["over_floor"]
            row["refit_seconds"] = result.refit["seconds"]
        row["seeds"] = " ".join(str(seed) for seed in result.seeds)
        writer.writerow({**row, "kind": "method", **_figures(result.figures)})
    for failure in compared.failures:
        said = failure.to_dict()
        row = {name: said[name] for name in ("method", "label", "error")}
        writer.writerow({**row, "kind": "failed", "seeds": failure.seed})
    return written.getvalue()


def _figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: figures[name] for name in ("bits_per_byte", "tokens")}
    return said | {name: group_bits(figures, name) for name in ("shared", "new")}


def _reference(name: str, figures: Mapping[str, Any], floor: float) -> list[str]:
    bits = figures["bits_per_byte"]
    groups = [_bits(group_bits(figures, group)) for group in ("shared", "new")]
    return [name, f"{bits:.4f}", "", f"{bits - floor:+.4f}", *groups, "", ""]


def _refitted(result: "Result", floor: float) -> list[str]:
    """Give what is in the table of a method's rows that were refitted."""
    if result.refit is None or result.refitted is None:
        return [""] * 4
    groups = [_bits(group_bits(result.refit["figures"], group)) for group in ("shared", "new")]
    return [f"{result.refitted:.4f}", f"{result.refitted - floor:+.4f}", *groups]


def _bits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _megabytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e6:,.0f}"
