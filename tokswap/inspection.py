"""What two vocabularies share, and where the row of one token comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError, NameUnknownError
from tokswap.methods import DEFAULT, Role
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import find_overrides, new_rows, open_models, open_pair
from tokswap.recipe import Recipe, make_recipe
from tokswap.report.record import counts, missing_kinds, special_tokens
from tokswap.vocabulary.align import Alignment, Kind, align
from tokswap.vocabulary.kinds import digit_scheme
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from tokswap.evaluation.floor import Floor
    from tokswap.evaluation.score import Score
    from tokswap.plan import Plan


@dataclass(frozen=True)
class Source:
    """Where the row of one token comes from.

    Attributes:
        id: The token's id in the new vocabulary.
        token: The token, for people.
        kind: What the row is: shared, missing, special …
        pieces: The token under the base's tokenizer, for missing tokens.
        rows: For each role the base tokens and weights whose sum makes the row, the largest first.
    """

    id: int
    token: str
    kind: str
    pieces: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[str, float], ...]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        rows = {
            role: [{"token": token, "weight": weight} for token, weight in entries]
            for role, entries in self.rows.items()
        }
        return {
            "id": self.id,
            "token": self.token,
            "kind": self.kind,
            "pieces": list(self.pieces),
            "rows": rows,
        }


@dataclass(frozen=True)
class Inspection:
    """What two vocabularies share.

    Attributes:
        base: Name of the base.
        donor: Name of the donor.
        counts: Rows by where they come from (see :func:`tokswap.report.record.counts`).
        missing_kinds: The missing tokens by the sort of their text.
        special_tokens: Each special token of the donor with its base counterpart.
        digits: How each of both cuts numbers.
        tokens_per_byte: Of each of both, on the text.
        text: Name of the text.
        source: Where one token's row comes from, if it was asked for.
        untrained: Rows that looked untrained when a given plan was made
            (see :func:`tokswap.report.untrained.untrained`).
        further: Number of rows that are not what a given plan says, for they were trained further,
            by tensor.
        own: Figures of the base on its own cut of the text, if it was measured.
        floor: The segmentation floor: the base on the text as the donor cuts it, and what that
            costs; None as well.
    """

    base: str
    donor: str
    counts: Mapping[str, int]
    missing_kinds: Mapping[str, int]
    special_tokens: tuple[Mapping[str, Any], ...]
    digits: Mapping[str, str]
    tokens_per_byte: Mapping[str, float]
    text: str
    source: Source | None = None
    untrained: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, int] = field(default_factory=dict)
    own: "Score | None" = None
    floor: "Floor | None" = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form: ``base_size``, ``donor_size``, ``shared``, ``missing``, ``special``."""
        return {
            "base": self.base,
            "donor": self.donor,
            **self.counts,
            "special": list(self.special_tokens),
            "special_matched": self.counts["special"],
            "missing_kinds": dict(self.missing_kinds),
            "digits": dict(self.digits),
            "tokens_per_byte": dict(self.tokens_per_byte),
            "text": self.text,
            "own": self.own.to_dict() if self.own else None,
            "floor": self.floor.score.to_dict() if self.floor else None,
            "cut": self.floor.cut.to_dict() if self.floor else None,
            "untrained": dict(self.untrained),
            "further": dict(self.further),
            "token": self.source.to_dict() if self.source else None,
        }


def inspect(  # noqa: PLR0913 - a recipe's keys, as far as they matter to one row
    base_model: str | None = None,
    donor: str | None = None,
    *,
    token: str | None = None,
    plan: str | Path | None = None,
    method: str | Mapping[Role, str] = DEFAULT,
    parameters: Mapping[str, Any] | None = None,
    per_kind: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    text: str | Path | None = None,
    measured: bool = True,
    device: str = "auto",
) -> Inspection:
    """Compare two vocabularies; both may be bare tokenizers.

    Weights are read only of a base that is measured on a given text, and to solve a token's row.

    Args:
        base_model: The base, by name; with a plan, the one that the plan was made for by default.
        donor: The donor, by name; with a plan, the folder that the plan lies in by default.
        token: Text of a donor token whose row to explain.
        plan: An output folder, or its plan file, to explain the token by; without it the row is
            solved anew by the method.
        method: The method to explain the token by, where there is no plan.
        parameters: Its settings.
        per_kind: Other methods for some kinds of tokens, as in a recipe.
        tokenizer: What to change about the adopted vocabulary, as in a recipe.
        text: A text file to count tokens on; the bundled sample without it. On one that is given
            the base is measured, cut as either cuts it, unless a token is asked for.
        measured: Whether to measure the base on it, which loads the model.
        device: Where to measure it.

    Raises:
        NameUnknownError: If a vocabulary cannot be had, or the token is not one of the donor's.
        CheckpointError: If the plan cannot be read or is another pair's.
    """
    loaded = None
    if plan is not None:
        from tokswap.plan import Plan, plan_file

        path = plan_file(plan)
        loaded = Plan.load(path)
        base_model = base_model or loaded.about.get("base", {}).get("name")
        if tokenizer is None and donor is None:
            tokenizer = _tokenizer_of(path, loaded)
        donor = donor or _donor_of(path, loaded)
    if base_model is None or donor is None:
        lacking = [n for n, said in (("base", base_model), ("donor", donor)) if said is None]
        known = "the plan does not name them" if loaded else "give a plan that does"
        raise NameUnknownError(f"no {' and no '.join(lacking)} was given; name both, or {known}")
    names = {"base_model": base_model, "donor": donor, "method": method}
    settings = {"parameters": parameters, "per_kind": per_kind, "tokenizer": tokenizer}
    recipe = make_recipe(names | {key: dict(said or {}) for key, said in settings.items()})
    base, new, _ = open_models(recipe)
    # Tokens beyond the rows that a model has are not there, whatever its tokenizer says.
    said = base.vocab_size if "config.json" in base.files.names else None
    base_rows = said or len(base.vocabulary)
    alignment = align(
        base.vocabulary,
        new.vocabulary,
        base_rows=base_rows,
        rows=new_rows(new, recipe.tokenizer),
        overrides=find_overrides(recipe, base.vocabulary, new.vocabulary, base_rows),
        functions=recipe.tokenizer.known_functions,
    )
    source = None
    if token is not None:
        source = _source(recipe, alignment, loaded, alignment.donor.find(token))
    path = BUNDLED_FOLDER / "sample.txt" if text is None else Path(text)
    vocabularies = {"base": base.vocabulary, "donor": new.vocabulary}
    found = Inspection(
        base=base_model,
        donor=donor,
        counts=counts(alignment),
        missing_kinds=missing_kinds(alignment),
        special_tokens=tuple(special_tokens(alignment)),
        digits={name: digit_scheme(v) for name, v in vocabularies.items()},
        tokens_per_byte={name: _tokens_per_byte(v, path) for name, v in vocabularies.items()},
        text=path.name,
        source=source,
        untrained=(loaded.about.get("untrained") or {}) if loaded else {},
        further=(loaded.about.get("further") or {}).get("rows", {}) if loaded else {},
    )
    if text is None or token is not None or not (measured and base.has_weights):
        return found
    from tokswap.evaluation.before import floor_before

    own, floor = floor_before(base, alignment, path, device) or (None, None)
    return replace(found, own=own, floor=floor)


def _tokenizer_of(path: Path, plan: "Plan") -> Mapping[str, Any]:
    """What a plan's recipe changes about the tokenizer, but for what lies beside it changed."""
    said = dict((plan.about.get("recipe") or {}).get("tokenizer") or {})
    if (path.parent / "tokenizer.json").is_file():
        said.pop("bos", None)
    return said


def _donor_of(path: Path, plan: "Plan") -> str | None:
    """The plan's own folder, which holds the donor's tokenizer, or the donor it was made for."""
    beside = (path.parent / "tokenizer.json").is_file()
    said: str | None = plan.about.get("donor", {}).get("name")
    return str(path.parent) if beside else said


def _tokens_per_byte(vocabulary: Vocabulary, path: Path) -> float:
    from tokswap.evaluation.streaming import stream_ids
    from tokswap.evaluation.texts import file_text

    text = file_text(path)
    tokens = sum(len(ids) for doc in text.open() for ids in stream_ids(doc, vocabulary.backend))
    return tokens / path.stat().st_size


def _source(recipe: Recipe, alignment: Alignment, plan: "Plan | None", number: int) -> Source:
    """Explain a token's row by a plan, or by one that is made for this token alone."""
    base, donor = alignment.base, alignment.donor
    if plan is None:
        plan = _plan_of_one(recipe, alignment, number)
    else:
        _check_pair(plan, alignment)
    rows: dict[str, tuple[tuple[str, float], ...]] = {}
    for role, role_plan in plan.roles.items():
        kind, entries = plan.explain(number, role)
        means = [
            f"(mean of {len(role_plan.averages.row(n))} rows)"
            for n in range(len(role_plan.averages))
        ]
        rows[role] = tuple(
            (base.show(n) if n < plan.base_rows else means[n - plan.base_rows], weight)
            for n, weight in entries
        )
    pieces = alignment.pieces.get(number, [])
    return Source(number, donor.show(number), kind, tuple(base.show(n) for n in pieces), rows)


def _plan_of_one(recipe: Recipe, alignment: Alignment, number: int) -> "Plan":
    from tokswap.planning import Tables, make_plan

    def no_weights(_role: Role) -> "Tensor":
        raise CheckpointError(
            f"{alignment.base.name!r} is a bare tokenizer, and {recipe.label} reads the base's "
            "weights; give a model, or choose a method that needs none, such as pieces"
        )

    only = [number] if alignment.kind[number] == Kind.MISSING else []
    tables = Tables(base=no_weights, donor=None, tied=True)
    if only and Checkpoint.open(recipe.base_model).has_weights:
        pair = open_pair(recipe)
        alignment, tables = pair.alignment, pair.tables()
    return make_plan(alignment, recipe.methods, tables, seed=recipe.seed, only=only)


def _check_pair(plan: "Plan", alignment: Alignment) -> None:
    """Refuse a plan that is for other vocabularies.

    Raises:
        CheckpointError: If it is.
    """
    from tokswap.fitting import check_base, check_donor

    base, donor = alignment.base, alignment.donor
    try:
        check_donor(plan, donor)
        check_base(plan, base)
    except CheckpointError as error:
        made_for = {side: plan.about.get(side, {}) for side in ("base", "donor")}
        names = [said.get("name", "an unnamed " + side) for side, said in made_for.items()]
        raise CheckpointError(
            f"the plan is for {names[0]} and {names[1]}, not for {base.name} and {donor.name}; "
            "give the plan of this pair"
        ) from error
