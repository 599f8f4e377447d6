"""The segmentation floor of transplanted models: what of their loss is the changed cut's alone.

The floor is the base's own rows on the text as the donor cuts it, new tokens spelt in the base's
pieces. What lies between the base's own figure and the floor is the cut's doing, which no rows can
mend; what lies between the floor and a transplant is the rows'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import RECORD
from tokswap.errors import CheckpointError
from tokswap.evaluation.cut_cost import CutCost, cut_cost
from tokswap.evaluation.figures import Score
from tokswap.evaluation.loaded import CutScore, load_model
from tokswap.evaluation.texts import Text
from tokswap.fitting import check_base, check_donor
from tokswap.plan import PLAN_FILE, Plan
from tokswap.vocabulary.align import align
from tokswap.vocabulary.tokens import Vocabulary


@dataclass(frozen=True)
class Floor:
    """The segmentation floor of a base under a donor's cut of texts.

    Attributes:
        score: The figures of the floor.
        cut: What the cut costs over the base's own.
        trained: Whether the result's body is not the base's: then what it costs over the floor is
            not the rows' alone.
    """

    score: Score
    cut: CutCost
    trained: bool = False

    def to_dict(self, result: Score) -> dict[str, Any]:
        """JSON-ready form: ``floor``, ``cut``, and ``rows``, what a result costs over the floor."""
        rows = result.bits_per_byte - self.score.bits_per_byte
        return {"floor": self.score.to_dict(), "cut": self.cut.to_dict(), "rows": rows}


@dataclass(frozen=True, eq=False)
class Made:
    """A model that was made of a base.

    Attributes:
        cut: Its vocabulary, which cuts the text.
        kind: (T,) what each of its rows is.
        trained: Whether its body is not the base's.
    """

    cut: Vocabulary
    kind: Tensor
    trained: bool


def made_of(base: Checkpoint, checkpoint: Checkpoint) -> Made | None:
    """Tell by the plan in a model's folder whether it was made of a base.

    The plan must be for the tokens of both, so another base with the same vocabulary will do.

    Returns:
        What is to be known of it; None where there is no such plan.

    Raises:
        CheckpointError: If the plan or the record beside it cannot be read.
    """
    if PLAN_FILE not in checkpoint.files.names:
        return None
    plan = Plan.load(checkpoint.files.path(PLAN_FILE))
    try:
        check_donor(plan, checkpoint.vocabulary)
        check_base(plan, base.vocabulary)
    except CheckpointError:  # of another base, or given another tokenizer since: no floor to tell
        return None
    return Made(checkpoint.vocabulary, plan.kind, _trained(checkpoint))


def measure_with_floors(
    base: Checkpoint,
    others: Sequence[Made | None],
    texts: Sequence[Text],
    *,
    window: int,
    stride: int,
    device: str,
    dtype: str | None = None,
) -> tuple[Score, list[Floor | None]]:
    """Measure a base, loaded once, on its own cut of texts and on that of models made of it.

    Args:
        base: The base.
        others: The models, None for one that was not made of it; those with the same tokenizer
            share a floor.
        texts: What to measure on.
        window: Tokens that the model sees at once.
        stride: Tokens by which the window moves.
        device: Where to compute.
        dtype: Type to compute in; float32 on the CPU, as stored elsewhere, without it.

    Returns:
        The base's own figures, and the floor of each of the others; None of one that has none.

    Raises:
        TokswapError: If the base or a text cannot be read or measured.
    """
    model = load_model(base, device=device, dtype=dtype)
    shown = {"window": window, "stride": stride}
    own = model.own(texts, **shown, kind=planned_kinds(base, len(base.vocabulary)))
    seen: dict[tuple[str, bytes], CutScore] = {}
    floors: list[Floor | None] = []
    for made in others:
        if made is None:
            floors.append(None)
            continue
        cut, kind = made.cut, made.kind
        key = cut.sha256, kind[: len(cut)].numpy().tobytes()
        if key not in seen:
            alignment = align(base.vocabulary, cut, base_rows=model.rows, rows=len(kind))
            seen[key] = model.floor(alignment, cut, texts, **shown, kind=kind)
        floors.append(floor_over(own, seen[key], trained=made.trained))
    return own.score, floors


def floor_over(own: CutScore, floor: CutScore, *, trained: bool = False) -> Floor:
    """Tell what a floor costs over the base's own cut, both of the same text."""
    return Floor(floor.score, cut_cost(own.kinds, floor.kinds), trained)


def planned_kinds(checkpoint: Checkpoint, size: int) -> Tensor | None:
    """Tell what each token's row is by the plan in the folder, where there is one."""
    if PLAN_FILE not in checkpoint.files.names:
        return None
    return Plan.load(checkpoint.files.path(PLAN_FILE)).kind[:size]


def _trained(checkpoint: Checkpoint) -> bool:
    """Tell by its record whether what its body is made of is more than the base's."""
    if RECORD not in checkpoint.files.names:
        return False
    like = checkpoint.read_json(RECORD).get("like") or {}
    return bool((like.get("body") or {}).get("changed"))
