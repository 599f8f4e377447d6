"""What the rows of a text are like: how long, and which of the base's tokens are near."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tokswap.errors import RecipeError
from tokswap.methods import ROLES, Role
from tokswap.on_demand.embedder import Rows, TokenEmbedder, asked_recipe, open_embedder, show
from tokswap.recipe import Recipe
from tokswap.solvers.neighbours import nearest

AT_ONCE = 16_384
"""Base rows that are compared at once."""


@dataclass(frozen=True)
class Neighbour:
    """A base token near to a row."""

    id: int
    token: str
    cosine: float


@dataclass(frozen=True)
class RoleRow:
    """The row of a token in one role.

    Attributes:
        norm: Its length.
        neighbours: The base's tokens whose rows are nearest by angle, the nearest first; not the
            token itself.
    """

    norm: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class TokenReport:
    """A text as one token.

    Attributes:
        text: The text in quotes, or its bytes where it is none.
        bytes: Its bytes.
        id: The base token that it is, or None.
        special: The special token that is written so, or None; it is another token.
        pieces: The base tokens that it is cut into, with their ids.
        roles: Its row in each role; ``input`` alone where one table serves both.
        bias: Its bias in the head, or None where the base has none.
    """

    text: str
    bytes: bytes
    id: int | None
    special: int | None
    pieces: tuple[tuple[int, str], ...]
    roles: Mapping[Role, RoleRow]
    bias: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; the bytes as hexadecimal digits."""
        return {
            "text": self.text,
            "bytes": self.bytes.hex(),
            "id": self.id,
            "special": self.special,
            "pieces": [{"id": number, "token": token} for number, token in self.pieces],
            "roles": {
                role: {"norm": row.norm, "neighbours": [vars(near) for near in row.neighbours]}
                for role, row in self.roles.items()
            },
            "bias": self.bias,
        }


@dataclass(frozen=True, eq=False)
class Embedded:
    """Texts, each taken as one token.

    Attributes:
        model: Name of the base.
        method: What fills the rows that the base lacks.
        mean_norms: The mean length of the base's rows in each role.
        tokens: What was found of each text.
        rows: The rows themselves, in the order of the texts.
    """

    model: str
    method: str
    mean_norms: Mapping[Role, float]
    tokens: tuple[TokenReport, ...]
    rows: Rows = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the rows."""
        return {
            "model": self.model,
            "method": self.method,
            "tied": len(self.mean_norms) == 1,
            "mean_norms": dict(self.mean_norms),
            "tokens": [token.to_dict() for token in self.tokens],
        }


def embed(
    model: str,
    *texts: str | bytes,
    donor: str | None = None,
    neighbours: int = 5,
    recipe: Recipe | None = None,
    **settings: Any,
) -> Embedded:
    """Take each text as one token of a model, and give its rows with what they are like.

    Args:
        model: The model, by name.
        texts: Texts as they are: a leading space counts.
        donor: The model whose weights the method reads, by name; it serves the donor's tokens.
        neighbours: How many base tokens to list for each row.
        recipe: The method with its settings (:func:`asked_recipe`).
        **settings: Instead of it ``method``, ``parameters``, ``per_kind``, ``seed`` and ``device``
            as in a recipe.

    Raises:
        NameUnknownError: If a text is empty.
        RecipeError: If a setting is not valid, or no text is given.
        TokswapError: If a model cannot be had or is not supported, or the method cannot work.
    """
    if not texts or neighbours < 0:
        raise RecipeError(
            f"{len(texts)} texts with {neighbours} neighbours each are nothing to look at; give "
            "one text or more, and 0 neighbours or more"
        )
    recipe = recipe or asked_recipe(model, donor, settings)
    return describe(open_embedder(recipe, donor=donor), [_bytes(t) for t in texts], neighbours)


def describe(embedder: TokenEmbedder, tokens: Sequence[bytes], neighbours: int) -> Embedded:
    """Tell what the rows of tokens are like.

    Args:
        embedder: What gives the rows.
        tokens: N byte strings.
        neighbours: How many base tokens to list for each row.
    """
    rows = embedder.embed(tokens)
    ids = [embedder.find(data) for data in tokens]
    roles = ROLES[:1] if embedder.tied else ROLES
    found = {
        role: _look(
            embedder, role, rows.inputs if role == "input" else rows.outputs, ids, neighbours
        )
        for role in roles
    }
    vocabulary, reports = embedder.vocabulary, []
    for place, (data, pieces) in enumerate(zip(tokens, embedder.pieces(tokens), strict=True)):
        reports.append(
            TokenReport(
                text=show(data),
                bytes=data,
                id=ids[place],
                special=vocabulary.special_ids.get(data.decode(errors="replace")),
                pieces=tuple((number, vocabulary.show(number)) for number in pieces),
                roles={role: found[role][1][place] for role in roles},
                bias=None if rows.bias is None else float(rows.bias[place]),
            )
        )
    means = {role: found[role][0] for role in roles}
    return Embedded(embedder.base.name, embedder.label, means, tuple(reports), rows)


def _look(
    embedder: TokenEmbedder, role: Role, rows: Tensor, ids: Sequence[int | None], count: int
) -> tuple[float, list[RoleRow]]:
    """Compare rows with the base's in one role: the mean length of these, and each row's nearest.

    The base's rows are looked at in blocks, so that only a block of them is held in float32.
    """
    table = embedder.table(role)
    used = torch.from_numpy(embedder.pair.alignment.used_base_ids)
    rows, k = rows.float(), count + 1  # a base token's own row is among the nearest
    near, far = torch.empty(len(rows), 0).long(), torch.empty(len(rows), 0).double()
    total = 0.0
    for start in range(0, len(used), AT_ONCE):
        some = used[start : start + AT_ONCE]
        atoms = table[some].float()
        total += float(atoms.norm(dim=1).double().sum())
        places, distances = nearest(rows, atoms, min(k, len(atoms)))
        near, far = torch.cat([near, some[places]], dim=1), torch.cat([far, distances], dim=1)
        order = far.argsort(dim=1, stable=True)[:, :k]
        near, far = near.gather(1, order), far.gather(1, order)
    show_id = embedder.vocabulary.show
    listed = [
        [Neighbour(n, show_id(n), 1.0 - d) for n, d in zip(*pair, strict=True) if n != own][:count]
        for *pair, own in zip(near.tolist(), far.tolist(), ids, strict=True)
    ]
    norms = rows.norm(dim=1).tolist()
    found = [RoleRow(norm, tuple(some)) for norm, some in zip(norms, listed, strict=True)]
    return total / max(len(used), 1), found


def _bytes(text: str | bytes) -> bytes:
    """Return a text's bytes; what of an argument was no UTF-8 comes back as it was."""
    return text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
