"""Bytes in, rows out: the rows of any token, filled by any method, kept for the next question."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import load_table
from tokswap.errors import MethodError, NameUnknownError
from tokswap.methods import DEFAULT, Method, Role
from tokswap.on_demand.asked import ask, cut_with_rows
from tokswap.pair import Pair, open_pair, pair_of
from tokswap.planning import Tables, make_plan
from tokswap.recipe import Recipe, make_recipe
from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.pieces import bare_tokenizer
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEPT = 8192
"""Tokens whose rows are kept where nothing else is said."""
WITHOUT_DONOR = "pieces"
"""The method where neither a method nor a donor is given."""


class Rows(NamedTuple):
    """The rows of N tokens, in the types that the base stores.

    Attributes:
        inputs: (N, D) for the embedding.
        outputs: (N, D) for the head; the same tensor where one table serves both.
        bias: (N,) of the head, or None where the base has none.
    """

    inputs: Tensor
    outputs: Tensor
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class TokenEmbedder:
    """Gives the rows of any token of a base.

    A token that the base has keeps the base's own rows bit for bit; any other is taken for one that
    the base is missing, and filled by the method of each role. A method on a donor's weights knows
    the donor's tokens only. Rows that are drawn, or learned from a text, depend on which tokens are
    asked for together; those of all other methods do not.

    Attributes:
        pair: The base, and the donor; the base again where no method reads a donor's weights.
        tokenizer: What cuts tokens into the base's (:func:`bare_tokenizer`).
        methods: The method of each role.
        label: What messages call the methods.
        seed: Seed of methods that draw at random.
        device: Where to compute.
        kept: Tokens whose filled rows are kept: those asked for last.
    """

    pair: Pair
    tokenizer: "Tokenizer"
    methods: Mapping[Role, Method]
    label: str
    seed: int = 0
    device: str = "cpu"
    kept: int = KEPT

    @property
    def base(self) -> Checkpoint:
        """The checkpoint whose rows are given."""
        return self.pair.base

    @property
    def vocabulary(self) -> Vocabulary:
        """The base's vocabulary."""
        return self.pair.base.vocabulary

    @property
    def base_rows(self) -> int:
        """S, rows of the base's tables."""
        return self.pair.alignment.base_rows

    @property
    def tied(self) -> bool:
        """Whether one table serves both roles."""
        return self.pair.layout.tied

    def embed(self, tokens: Sequence[bytes]) -> Rows:
        """Give the rows of tokens.

        Args:
            tokens: N byte strings, whole UTF-8 or not, of any length but 0.

        Raises:
            NameUnknownError: If a token is empty.
            MethodError: If a method cannot work on this base, or a token is none of the donor's.
        """
        if not all(tokens):
            raise NameUnknownError("an empty token has no row; give at least one byte")
        places = {data: place for place, data in enumerate(dict.fromkeys(tokens))}
        own = {data: number for data in places if (number := self.find(data)) is not None}
        known = {data: self._cache[data] for data in places if data in self._cache}
        new = [data for data in places if data not in own and data not in known]
        parts = [(list(own), self._of_base(list(own.values())))]
        parts += [([data], rows) for data, rows in known.items()]
        if new:
            filled = self._fill(new)
            parts.append((new, filled))
            self._cache.update((data, _row(filled, place)) for place, data in enumerate(new))
        for data in known:
            self._cache.move_to_end(data)
        while len(self._cache) > self.kept:
            self._cache.popitem(last=False)
        order = {data: place for place, data in enumerate(d for part, _ in parts for d in part)}
        return _joined([rows for _, rows in parts], torch.tensor([order[d] for d in tokens]).long())

    def find(self, token: bytes) -> int | None:
        """Find the base token with these bytes that has a row; None where there is none."""
        number = self.vocabulary.ids.get(token)
        return number if number is not None and number < self.base_rows else None

    def serves(self, token: bytes) -> bool:
        """Tell whether a token's rows can be given: any token's, or with a donor those it has."""
        free = self.pair.donor is self.base
        return bool(token) and (free or self.find(token) is not None or token in self._donor_ids)

    def pieces(self, tokens: Sequence[bytes]) -> list[list[int]]:
        """Cut byte strings into tokens of the base that have a row."""
        return cut_with_rows(self.vocabulary, tokens, self.tokenizer, self.base_rows)

    def table(self, role: Role) -> Tensor:
        """Return the base's table of a role, (S, D), as it is stored."""
        return self._tables.base("input" if self.tied else role)

    @cached_property
    def bias(self) -> Tensor | None:
        """The bias of the base's head, (S,), or None where it has none."""
        for tensor in self.pair.layout.tensors:
            info = self.base.info(tensor.name)
            entries = [size for size in info.shape if size != 1]
            if tensor.role == "output" and entries == [tensor.rows] and info.dtype in FLOATS:
                return load_table(self.base, tensor.name, tensor.axis).flatten()
        return None

    @cached_property
    def _cache(self) -> "OrderedDict[bytes, Rows]":
        """The rows of each filled token, (1, D), by its bytes; those asked for last behind."""
        return OrderedDict()

    @cached_property
    def _tables(self) -> Tables:
        """The pair's tables, each of which is loaded once."""
        tables = self.pair.tables()
        return Tables(
            base=cache(tables.base),
            donor=tables.donor and cache(tables.donor),
            tied=tables.tied,
            donor_tied=tables.donor_tied,
        )

    def _of_base(self, ids: Sequence[int]) -> Rows:
        chosen = torch.tensor(ids, dtype=torch.int64)
        inputs = self.table("input")[chosen]
        outputs = inputs if self.tied else self.table("output")[chosen]
        return Rows(inputs, outputs, None if self.bias is None else self.bias[chosen])

    def _fill(self, tokens: Sequence[bytes]) -> Rows:
        """Fill the rows of distinct tokens, none of which is the base's."""
        alignment, ids = self._aligned(tokens)
        missing = [number for number in ids if alignment.kind[number] == Kind.MISSING]
        plan = make_plan(
            alignment,
            self.methods,
            self._tables,
            seed=self._seed(tokens),
            device=self.device,
            only=sorted(missing),
        )
        chosen = torch.tensor(ids, dtype=torch.int64)
        made = {role: part.take(chosen) for role, part in plan.roles.items()}
        inputs, output = made["input"].apply(self.table("input")), made.get("output", made["input"])
        outputs = inputs if self.tied else output.apply(self.table("output"))
        return Rows(inputs, outputs, None if self.bias is None else output.apply(self.bias))

    def _aligned(self, tokens: Sequence[bytes]) -> tuple[Alignment, list[int]]:
        """Find the tokens in a vocabulary that is aligned against the base.

        Raises:
            MethodError: If the donor has not all of them.
        """
        alignment = self.pair.alignment
        if self.pair.donor is self.base:
            ids = range(alignment.rows, alignment.rows + len(tokens))
            return ask(alignment, self.tokenizer, tokens), list(ids)
        for data in tokens:
            if data not in self._donor_ids:
                raise MethodError(
                    f"{self.label} fills the tokens of {alignment.donor.name!r} alone, and "
                    f"{show(data)} is none of them; choose a method that reads no donor's weights, "
                    "such as pieces"
                )
        return alignment, [self._donor_ids[data] for data in tokens]

    @property
    def _donor_ids(self) -> Mapping[bytes, int]:
        return self.pair.donor.vocabulary.ids

    def _seed(self, tokens: Sequence[bytes]) -> int:
        """Draw other rows for other tokens, whose numbers are the same in every question."""
        if not any(method.draws for method in self.methods.values()):
            return self.seed
        said = repr((self.seed, list(tokens))).encode()
        return int.from_bytes(hashlib.sha256(said).digest()[:7], "big")


def embedder(
    base_model: str,
    *,
    method: str | Mapping[Role, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    donor: str | None = None,
    seed: int = 0,
    device: str = "auto",
    kept: int = KEPT,
) -> TokenEmbedder:
    """Open a model whose rows of any token can be asked for: ``embedder(...).embed([b" new"])``.

    Args:
        base_model: The model, by name.
        method: What fills the rows of tokens that the model lacks, for both roles or for each;
            without it ``pieces``, or with a donor ``omp-pieces``.
        parameters: The method's settings, as in a recipe.
        donor: The model whose weights the method reads, by name; it serves the donor's tokens.
        seed: Seed of methods that draw at random.
        device: Where to compute: auto, cpu, cuda, cuda:N or mps.
        kept: Tokens whose filled rows are kept.

    Raises:
        RecipeError: If there is no such method, or a setting is not valid.
        MethodError: If the method needs a donor and none is given, or the other way round.
        TokswapError: If a model cannot be had or is not supported.
    """
    said = {
        "method": method,
        "parameters": parameters and dict(parameters),
        "seed": seed,
        "device": device,
    }
    return open_embedder(asked_recipe(base_model, donor, said), donor=donor, kept=kept)


def asked_recipe(
    base_model: str, donor: str | None, said: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Recipe:
    """Make the recipe of an embedder.

    Args:
        base_model: The model.
        donor: The donor, or None: then the model itself stands in its place.
        said: More of the recipe's keys; None is as if nothing was said.
        overrides: ``key.path=value`` settings.

    Raises:
        RecipeError: If it is not valid.
    """
    said = {key: value for key, value in said.items() if value is not None}
    method = {"method": DEFAULT if donor else WITHOUT_DONOR}
    return make_recipe(
        method | said | {"base_model": base_model, "donor": donor or base_model}, overrides
    )


def open_embedder(recipe: Recipe, *, donor: str | None, kept: int = KEPT) -> TokenEmbedder:
    """Open the embedder of a recipe; see :func:`embedder`.

    Raises:
        MethodError: If the method needs a donor and none is given, or the other way round.
        TokswapError: If a model cannot be had or is not supported.
    """
    from tokswap.evaluation.measure import pick_device

    if recipe.needs_donor and donor is None:
        raise MethodError(
            f"{recipe.label} reads a donor's weights and none is given; name the donor, or choose "
            "a method that reads none, such as pieces"
        )
    if donor is not None and not recipe.needs_donor:
        raise MethodError(
            f"{recipe.label} reads no donor's weights, and {donor!r} is given; leave it out, or "
            f"choose a method that reads them, such as {DEFAULT}"
        )
    device = pick_device(recipe.device)
    if recipe.needs_donor:
        pair = open_pair(recipe)
    else:
        base = Checkpoint.open(recipe.base_model)
        pair = pair_of(base, base, recipe, with_donor=False, rows=len(base.vocabulary))
    if pair.layout.draft is not None:
        raise MethodError(
            f"{recipe.base_model} is a draft model that predicts a part of its tokens; give the "
            "model that it drafts for"
        )
    tokenizer = bare_tokenizer(pair.base.vocabulary)
    return TokenEmbedder(pair, tokenizer, recipe.methods, recipe.label, recipe.seed, device, kept)


def show(token: bytes) -> str:
    """Write a token for people: its text in quotes, or its bytes where it is none."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def _row(rows: Rows, place: int) -> Rows:
    """Copy the rows of one token out, so that no others are kept with them."""
    inputs = rows.inputs[place : place + 1].clone()
    outputs = inputs if rows.outputs is rows.inputs else rows.outputs[place : place + 1].clone()
    bias = None if rows.bias is None else rows.bias[place : place + 1].clone()
    return Rows(inputs, outputs, bias)


def _joined(parts: Sequence[Rows], order: Tensor) -> Rows:
    """Put rows below each other, and then in order; the same table stays the same."""
    inputs = torch.cat([part.inputs for part in parts])[order]
    tied = all(part.outputs is part.inputs for part in parts)
    outputs = inputs if tied else torch.cat([part.outputs for part in parts])[order]
    biases = [part.bias for part in parts if part.bias is not None]
    return Rows(inputs, outputs, torch.cat(biases)[order] if biases else None)
