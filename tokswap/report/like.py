"""What is told and recorded of a fine-tune that is made like its transplanted base."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.difference import FAR, Difference, distance, rounded
from tokswap.checkpoint.layout import Layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.vocabulary.align import Kind

if TYPE_CHECKING:
    from tokswap.trained_rows import TrainedTable
    from tokswap.transplanted import Transplanted


def like_record(
    made: "Transplanted", tables: Mapping[str, "TrainedTable"], found: Difference | None
) -> dict[str, Any]:
    """What a record says of the transplanted base, and of what it was taught since.

    Args:
        made: The transplanted base, and what it was made of.
        tables: Its tables by their names in the fine-tune.
        found: How its body differs; None where the bodies were not compared.
    """
    rows = {
        name: {
            "trained": table.count,
            "of": len(table.moved),
            "relative": rounded(table.relative),
        }
        for name, table in tables.items()
    }
    return {
        "name": made.like.name,
        "original": made.original.name,
        "plan": "worked out" if made.sha256 is None else "its own",
        "revision of original": made.original.files.revision,
        "sha256 of original tokenizer.json": made.original.vocabulary.sha256,
        "rows": rows,
        "body": found.to_dict() if found else None,
    }


def plan_line(made: "Transplanted") -> list[str]:
    """Tell what was taken for granted where no plan was there."""
    if made.sha256 is not None:
        return []
    kinds = made.plan.kind
    held = int((kinds == Kind.MISSING).sum())
    copied = int(((kinds == Kind.SHARED) | (kinds == Kind.SPECIAL)).sum())
    return [
        f"{made.like.name} has no plan: the rows of the {copied:,} tokens that it has in common "
        f"with {made.original.name} are taken to have been made of theirs, and those of the "
        f"{held:,} others are taken as they are"
    ]


def rows_line(made: "Transplanted", name: str, table: "TrainedTable") -> str:
    """Tell what becomes of a table with rows that were trained further."""
    return (
        f"{table.count:,} of {len(table.moved):,} rows of {table.like.name} in {made.like.name} "
        f"were trained further (by {table.relative:.2%} of their size); what training has changed "
        f"is added whole to {name}"
    )


def body_line(made: "Transplanted", found: Difference | None, strength: float) -> str:
    """Tell what becomes of the body."""
    like, original = made.like.name, made.original.name
    if found is None:
        return (
            f"strength 0: nothing of what training may have changed in the body of {like} is added"
        )
    if not found.changed:
        return f"the body of {like} is that of {original}, so nothing is added to the fine-tune's"
    return (
        f"{len(found.changed)} of {found.compared} other tensors of {like} differ from those of "
        f"{original} (by {found.relative:.2%} of their size); {strength:g} of the difference is "
        "added to the fine-tune's (--strength)"
    )


def far_lines(
    made: "Transplanted", found: Difference | None, fine: Checkpoint, layout: Layout
) -> list[str]:
    """Warn where models lie further apart than training takes them."""
    lines = []
    embeddings = fine.load(layout.input), made.original.load(made.original_layout.input)
    if (apart := distance(*embeddings)) > FAR:
        lines.append(
            f"the embedding of {fine.name} differs from that of {made.original.name} by "
            f"{apart:.0%} of its size, as another model's would: is it a fine-tune of it?"
        )
    if found and found.relative > FAR:
        lines.append(
            f"the body of {made.like.name} differs from that of {made.original.name} by "
            f"{found.relative:.0%} of its size, as another model's would: was it made of it?"
        )
    return lines
