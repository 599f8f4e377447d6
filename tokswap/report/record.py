"""The record of a transplant: everything that decided its bytes, and what came of it.

It holds no time and not the place of the output, so that the same settings give the same bytes.
"""

import importlib.metadata
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tokswap.pair import Pair
from tokswap.recipe import Recipe
from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.kinds import count_kinds

if TYPE_CHECKING:
    from tokswap.evaluation.measure import Evaluation
    from tokswap.plan import Plan

LIBRARIES = ("tokswap", "torch", "transformers", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Versions of this program and of the libraries that decide its numbers."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def counts(alignment: Alignment) -> dict[str, Any]:
    """Count the rows of the new vocabulary by where they come from.

    Returns:
        ``base_size`` (S) and ``donor_size`` (T), and how many of the T rows are ``shared``,
        ``missing``, ``special`` (with a counterpart in the base), ``special_unmatched``,
        ``overridden`` and ``unused`` (ids without a token); they add up to T.
    """
    of = {kind: int((alignment.kind == kind).sum()) for kind in Kind}
    return {
        "base_size": alignment.base_rows,
        "donor_size": alignment.rows,
        "shared": of[Kind.SHARED],
        "missing": of[Kind.MISSING],
        "special": of[Kind.SPECIAL],
        "special_unmatched": of[Kind.UNMATCHED],
        "overridden": of[Kind.OVERRIDE],
        "unused": of[Kind.UNUSED],
    }


def missing_kinds(alignment: Alignment) -> dict[str, int]:
    """Count the missing tokens by the sort of their text."""
    spelling = alignment.donor.spelling
    return count_kinds(spelling[number] or b"" for number in alignment.missing)


def special_tokens(alignment: Alignment) -> list[dict[str, Any]]:
    """List the donor's special tokens with the base token each takes its row from."""
    base, donor = alignment.base, alignment.donor
    return [
        {
            "id": number,
            "token": donor.strings[number],
            "base_id": source if source >= 0 else None,
            "base_token": base.strings[source] if 0 <= source < len(base) else None,
            "by": reason,
        }
        for number, reason in alignment.reasons.items()
        for source in [int(alignment.source[number])]
    ]


def make_record(
    recipe: Recipe,
    pair: Pair,
    plan: "Plan",
    hashes: Mapping[str, str],
    held_out: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the record of a transplant, without figures.

    Args:
        recipe: What was asked for.
        pair: The base and the donor.
        plan: Where the new rows come from.
        hashes: SHA-256 of the written vocabulary tensors, by name.
        held_out: What anchors that were held out say of the method.
    """
    base, donor = pair.base, pair.donor
    return {
        "recipe": recipe.record(),
        "versions": versions(),
        "counts": counts(pair.alignment),
        "sources": plan.about.get("sources") or {},
        "untrained": plan.about.get("untrained") or {},
        "held_out": dict(held_out) if held_out else None,
        "refit": rounded(plan.about.get("refit")),
        "tied": pair.layout.tied,
        "kept_bos": pair.kept_bos.to_dict() if pair.kept_bos else None,
        "revisions": {"base": base.files.revision, "donor": donor.files.revision},
        "sha256": {
            "base tokenizer.json": base.vocabulary.sha256,
            "donor tokenizer.json": donor.vocabulary.sha256,
            **hashes,
        },
    }


def measured_record(evaluation: "Evaluation") -> dict[str, Any]:
    """Say in a record what was measured of the base and the result.

    Returns:
        ``figures`` of ``base``, ``floor`` and ``result``; and ``cut``, what the changed cut costs
        by kind of text, with ``rows``, what the result costs over the floor. Without a floor there
        is none of both.
    """
    (base, _), (result, floor) = evaluation.pairs
    scores = {"base": base, **({"floor": floor.score} if floor else {}), "result": result}
    figures = {name: rounded(score.to_dict()) for name, score in scores.items()}
    figures["result"]["model"] = "result"  # where the folder lies is not part of the record
    if floor is None:
        return {"figures": figures}
    said = floor.to_dict(result)
    return {"figures": figures, "cut": rounded({**said["cut"], "rows": said["rows"]}, places=5)}


def rounded(value: Any, *, places: int | None = None) -> Any:
    """Round figures so that they do not tell one processor from another.

    Args:
        value: What JSON knows.
        places: Digits behind the point, for differences of figures; 6 digits in all without it.
    """
    if isinstance(value, dict):
        return {key: rounded(inner, places=places) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner, places=places) for inner in value]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if places is not None:
        return round(value, places)
    return float(np.format_float_positional(value, 6, unique=False, fractional=False))
