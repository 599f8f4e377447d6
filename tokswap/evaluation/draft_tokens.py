"""Two vocabularies side by side, id by id: whether a proposed id means the same to both models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.vocabulary.tokens import Vocabulary

TOLERANCE = 0.01
"""Share of the target's ordinary tokens that may differ in a draft that still counts as matching.

Engines that compare sizes only do not look at tokens at all. A few renamed reserved tokens cost a
draft next to nothing; another vocabulary of the same size costs it everything.
"""

SPACE_MARKS = ("Ġ", "▁")


@dataclass(frozen=True, eq=False)
class Side:
    """What the engines look at in one of the two models, without its weights.

    Attributes:
        name: What the user called it.
        vocabulary: Its tokens.
        rows: Rows of its vocabulary by config.json, padding included.
        config: Its configuration as transformers reads it; None where transformers cannot.
        settings: Its tokenizer_config.json; empty where there is none.
        generation: Its generation_config.json; empty where there is none.
    """

    name: str
    vocabulary: Vocabulary
    rows: int
    config: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)


def open_side(checkpoint: Checkpoint) -> Side:
    """Read what the engines look at; no weights are read.

    Raises:
        EvaluationError: If nothing says how many rows the vocabulary has.
        TokswapError: If config.json or tokenizer.json cannot be had or read.
    """
    config = _config(checkpoint)
    rows = checkpoint.vocab_size
    if config is not None:  # knows the defaults that config.json leaves out
        rows = getattr(config.get_text_config(), "vocab_size", rows)
    if rows is None:
        raise EvaluationError(
            f"{checkpoint.name} has a config.json without vocab_size; give a language model"
        )
    return Side(
        name=checkpoint.name,
        vocabulary=checkpoint.vocabulary,
        rows=rows,
        config=config,
        settings=_json(checkpoint, "tokenizer_config.json"),
        generation=_json(checkpoint, "generation_config.json"),
    )


def _config(checkpoint: Checkpoint) -> Any:
    from transformers import AutoConfig

    checkpoint.config  # noqa: B018 - a missing or malformed one is told in our words
    folder = checkpoint.files.path("config.json").parent
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # each architecture refuses by exceptions of its own
        return None


def _json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    return checkpoint.read_json(name) if name in checkpoint.files.names else {}


@dataclass(frozen=True)
class Difference:
    """How two vocabularies differ.

    Attributes:
        rows: Rows of draft and target.
        tokens: Ids in use, up to the highest, of draft and target.
        ordinary: The target's ordinary (not special) tokens.
        differing: Of these, those that the draft does not have at the same id.
        first: The first of them, for people; "" where there is none.
        common: Tokens of the draft that the target writes alike, at any id.
    """

    rows: tuple[int, int]
    tokens: tuple[int, int]
    ordinary: int
    differing: int
    first: str
    common: int

    @property
    def matching(self) -> bool:
        """Whether an id means the same to both, but for a few."""
        return self.differing <= TOLERANCE * self.ordinary

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "draft_rows": self.rows[0],
            "target_rows": self.rows[1],
            "draft_tokens": self.tokens[0],
            "target_tokens": self.tokens[1],
            "target_ordinary": self.ordinary,
            "differing": self.differing,
            "first_difference": self.first or None,
            "common": self.common,
        }


def compare(draft: Side, target: Side) -> Difference:
    """Compare two vocabularies: at the same ids by bytes, and anywhere by the strings."""
    ours, theirs = draft.vocabulary, target.vocabulary
    ordinary = [
        number
        for number, data in enumerate(theirs.spelling)
        if data is not None and number not in theirs.special
    ]
    differing = [
        number
        for number in ordinary
        if number >= len(ours)
        or number in ours.special
        or ours.spelling[number] != theirs.spelling[number]
    ]
    return Difference(
        rows=(draft.rows, target.rows),
        tokens=(len(ours), len(theirs)),
        ordinary=len(ordinary),
        differing=len(differing),
        first=_shown(draft, target, differing[0]) if differing else "",
        common=len(_written(ours) & _written(theirs)),
    )


def _shown(draft: Side, target: Side, number: int) -> str:
    ours, theirs = draft.vocabulary.show(number), target.vocabulary.show(number)
    return f"id {number} is {ours} in {draft.name} and {theirs} in {target.name}"


def _written(vocabulary: Vocabulary) -> set[str]:
    """Strings of all tokens, the mark of a leading space made one, as the engines compare them."""
    return {
        " " + string[1:] if string.startswith(SPACE_MARKS) else string
        for string in vocabulary.strings
        if string
    }
