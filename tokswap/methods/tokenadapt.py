"""A missing row is made of the token's pieces and of the base's tokens most like it."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tokswap.encoders import DEFAULT_ENCODER
from tokswap.errors import MethodError
from tokswap.methods.base import Method, Problem, Role
from tokswap.methods.cost import BLOCKS, Cost, Sizes
from tokswap.methods.token_texts import Texts, decoded_texts, plain_texts
from tokswap.methods.token_vectors import (
    BatchSize,
    Pooling,
    Prefix,
    Vectors,
    encoded,
    encoder_source,
    of_base,
)
from tokswap.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tokswap.encoders import Encoder
    from tokswap.solvers.sparse import SparseRows

BASE = "base"
"""The encoder that is none: the base's own input rows."""

_WIDTH = 1024  # of an encoder's vectors, at most, but for few
_MOST = 3.0  # times that a row is lengthened at most


class TokenAdapt(Method):
    """TokenAdapt: a local and a global estimate, added.

        new  =  (1 - global_weight) Σ w_i b_i  +  global_weight Σ g_j b_j

    Local are the pieces i into which the base's tokenizer cuts the token, by how alike the encoder
    finds them to the whole (cos_i) and by their share l_i of its length; global are the ``k`` base
    tokens j whose vectors are nearest to the token's:

        w = softmax((softmax(cos) + l) / 2 / temperature),    g = softmax(cos / temperature)

    The inner softmax leaves little of the similarities, so lengths decide. Where one side has
    nothing, the other stands alone: a token without a text, or with no neighbour above the
    ``threshold``, is made of its pieces, and one without pieces of its neighbours. A token without
    either gets the mean of the base's rows.

    ``paper`` is what the published code does. Its texts are ``decode([id])``: every token that
    holds part of a character is the replacement character, with its pieces and its neighbours; and
    any base token may be a neighbour. ``repaired``, the default, reads tokens from their bytes. A
    token that is no text, or has a piece that is none, is made of its pieces by length alone.
    Neighbours are ordinary tokens with a trained row, no byte tokens, and start a word if the token
    does; most encoders cannot tell ``" cat"`` from ``"cat"``. Where the ``encoder`` is ``base``, a
    token's vector is the mean of its pieces' rows, and they are not its neighbours.

    A mean of rows is shorter than they are. ``rescale`` lengthens what it differs from the mean of
    the base's rows to what its parts differ from it. It is off, for a short row in a head is a
    modest one: lengthened, new tokens are predicted better, and more often where they are wrong.
    """

    summary: ClassVar[str] = "the token's pieces and the base's tokens most like it in meaning"
    paper: ClassVar[str] = "TokenAdapt (Sharthak et al. 2025, arXiv 2505.09738)"

    variant: Literal["repaired", "paper"] = Field(
        default="repaired",
        description="with the faults of the published code repaired, or as published",
    )
    temperature: float = Field(
        default=0.3,
        ge=0.0,
        allow_inf_nan=False,
        strict=False,
        description="of both estimates: the higher, the more alike the weights",
    )
    k: int = Field(default=3, gt=0, description="neighbours of each missing token")
    global_weight: float = Field(
        default=0.3, ge=0.0, le=1.0, strict=False, description="weight of the neighbours"
    )
    threshold: float | None = Field(
        default=0.0,
        ge=-1.0,
        le=1.0,
        strict=False,
        description="neighbours of a lower cosine are left out",
    )
    length: Literal["chars", "bytes"] = Field(
        default="chars", description="what the lengths of pieces are counted in"
    )
    encoder: str = Field(
        default=DEFAULT_ENCODER,
        min_length=1,
        description="text encoder that tells how alike tokens are: a name as of a model; or "
        "`base`, the base's own input rows",
    )
    encoder_pooling: Pooling = None
    encoder_prefix: Prefix = None
    batch_size: BatchSize = 64
    outliers: float | None = Field(
        default=4.0,
        gt=0.0,
        strict=False,
        description="of `repaired`: base tokens whose rows look untrained are no neighbours: "
        "zeros, repeated, all to one side, or of a log length this many robust deviations off the "
        "median",
    )
    rescale: bool = Field(
        default=False,
        description="of `repaired`: lengthen rows to what is usual; in a head new tokens gain, "
        "and the others lose",
    )

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return self.encoder == BASE or self._rescales

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        own = self.encoder == BASE
        width = sizes.base_width if own else _WIDTH
        rows = sizes.missing + 3 * len(sizes.alignment.base)
        near = self.k * sizes.missing if self.global_weight else 0
        mean = sizes.missing if self._rescales else 0
        return Cost(weights=sizes.pieces + near + mean, memory=4 * rows * width + BLOCKS)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        return {} if self.encoder == BASE else encoder_source(self._open("cpu"))

    def check(self, sizes: Sizes) -> None:
        """See :meth:`Method.check`.

        Raises:
            MethodError: If there are fewer base tokens than neighbours.
            EncoderError: If the encoder cannot be used.
        """
        if sizes.missing:
            self._check_count(sizes.used, sizes.alignment.base.name)
            if self.encoder != BASE:
                self._open("cpu")

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`.

        Raises:
            MethodError: If there are fewer base tokens than neighbours.
        """
        from tokswap.solvers.sparse import SparseRows

        if not problem.ids:
            return SparseRows.from_lists([], [], problem.columns)
        texts = self._texts(problem)
        if self.encoder == BASE:
            vectors = of_base(problem, texts)
        else:
            vectors = encoded(texts, self._open(problem.device), problem.alignment.base_rows)
        local = self._local(problem, texts, vectors)
        near = self._near(problem, texts, vectors)
        hybrid = self._hybrid(problem, local, near)
        return _rescaled(problem, hybrid) if self._rescales else hybrid

    @property
    def _rescales(self) -> bool:
        return self.rescale and self.variant == "repaired"

    def _open(self, device: str) -> "Encoder":
        from tokswap.encoders import open_encoder

        return open_encoder(
            self.encoder,
            pooling=self.encoder_pooling,
            prefix=self.encoder_prefix,
            device=device,
            batch_size=self.batch_size,
        )

    def _texts(self, problem: Problem) -> Texts:
        if self.variant == "paper":
            return decoded_texts(problem.alignment, problem.ids, self.length)
        fit = _fit_neighbours(problem, self.outliers, inputs=self.encoder == BASE)
        return plain_texts(problem.alignment, problem.ids, fit, self.length)

    def _local(self, problem: Problem, texts: Texts, vectors: Vectors) -> "SparseRows":
        """Combine the pieces; a row is empty where there are none."""
        import torch

        from tokswap.solvers.similar import cosines, part_weights
        from tokswap.solvers.sparse import SparseRows

        lengths = torch.tensor([len(row) for row in texts.pieces], dtype=torch.int64)
        rows, count = torch.repeat_interleave(lengths), len(lengths)
        pieces = torch.tensor([n for row in texts.pieces for n in row], dtype=torch.int64)
        shares = torch.tensor([n for row in texts.shares for n in row], dtype=torch.float64)
        if self.global_weight == 1 and self.variant == "paper":
            return SparseRows.from_lists([[]] * count, [[]] * count, problem.columns)
        places = vectors.place[pieces]
        alike = cosines(vectors.missing, rows, vectors.base, places)
        unknown = torch.zeros(count, dtype=torch.bool)
        unknown[rows[~(vectors.known_base[places] & vectors.known_missing[rows])]] = True
        alike[unknown[rows]] = 0.0
        weights = part_weights(alike, shares, rows, count, temperature=self.temperature)
        lists = [part.tolist() for part in torch.split(weights, lengths.tolist())]
        return SparseRows.from_lists(texts.pieces, lists, problem.columns)

    def _near(self, problem: Problem, texts: Texts, vectors: Vectors) -> "SparseRows":
        """Combine the neighbours; a row is empty where there are none."""
        import torch

        from tokswap.solvers.neighbours import nearest
        from tokswap.solvers.similar import first_others, neighbour_weights
        from tokswap.solvers.sparse import SparseRows

        found = torch.full((len(problem.ids), self.k), -1, dtype=torch.int64)
        similar = torch.full(found.shape, -math.inf, dtype=torch.float64)
        if self.global_weight:
            neighbours = torch.tensor(texts.neighbours, dtype=torch.int64)
            self._check_count(len(neighbours), problem.alignment.base.name)
            # The mean of its pieces is near to them whatever the token is.
            own = self.encoder == BASE and self.variant == "repaired"
            pieces = _padded(texts.pieces) if own else found[:, :0]
            known, count = vectors.known_missing, self.k + pieces.shape[1]
            starts, base_starts = torch.tensor(texts.starts), torch.tensor(texts.base_starts)
            # Apple's GPUs lack float64.
            device = "cpu" if problem.device.startswith("mps") else problem.device
            label = f"tokenadapt, {problem.role} {problem.purpose}"
            with bar(label, int(known.sum())) as advance:
                for start in (False, True):
                    places = (known & (starts == start)).nonzero()[:, 0]
                    some = neighbours[base_starts == start]
                    keys = vectors.base[vectors.place[some]].to(device)
                    targets = vectors.missing[places].to(device)
                    near, far = nearest(targets, keys, count, progress=advance)
                    ids = torch.cat([some, some.new_tensor([-1])])[near.cpu()]  # -1 is the last
                    found[places], similar[places] = first_others(
                        ids, 1 - far.cpu(), pieces[places], self.k
                    )
        weights = neighbour_weights(similar, temperature=self.temperature, threshold=self.threshold)
        return SparseRows.from_padded(found, weights, problem.columns)

    def _hybrid(self, problem: Problem, local: "SparseRows", near: "SparseRows") -> "SparseRows":
        """Add both; where one has nothing the other stands alone, and the mean where both have."""
        import torch

        from tokswap.solvers.sparse import SparseRows

        has_local, has_near = (part.indptr.diff() > 0 for part in (local, near))
        share = torch.where(has_local, self.global_weight, 1.0) * has_near
        hybrid = local.scaled(1 - share).combine(near.scaled(share), 1, 1)
        none = torch.where(has_local | has_near, -1, problem.mean_column)
        return hybrid.combine(SparseRows.selection(none, problem.columns), 1, 1)

    def _check_count(self, there: int, base: str) -> None:
        if self.global_weight and self.k > there:
            raise MethodError(
                f"tokenadapt with k={self.k} asks for more neighbours than {base!r} has tokens "
                f"that are fit to be one ({there}); lower method.k"
            )


def _fit_neighbours(problem: Problem, outliers: float | None, *, inputs: bool) -> list[int]:
    """Base ids of ordinary tokens with a trained row, in every table that counts.

    Args:
        problem: What to fill.
        outliers: Deviations off the median from which a row's length is odd; None leaves all in.
        inputs: Whether the base's input table counts, whatever the role.
    """
    import torch

    base, ids = problem.alignment.base, problem.alignment.used_base_ids
    fit = torch.zeros(problem.alignment.base_rows, dtype=torch.bool)
    fit[torch.from_numpy(ids)] = True
    fit[torch.tensor(sorted(base.fallback), dtype=torch.int64)] = False
    if outliers is not None:
        tables: dict[Role, Callable[[], Tensor]] = {problem.role: problem.base_table}
        tables |= problem.also
        if inputs and problem.base_inputs is not None:
            tables["input"] = problem.base_inputs
        for role, table in tables.items():
            fit &= ~problem.find_untrained("base", table(), outliers, role=role)
    return fit.nonzero()[:, 0].tolist()


def _padded(lists: list[list[int]]) -> "Tensor":
    """What is in each list, once, (M, most), with -2 behind it, which is no id."""
    import torch

    rows = [list(dict.fromkeys(row)) for row in lists]
    most = max(len(row) for row in rows)
    return torch.tensor([row + [-2] * (most - len(row)) for row in rows], dtype=torch.int64)


def _rescaled(problem: Problem, weights: "SparseRows") -> "SparseRows":
    """Lengthen what rows differ from the mean of the base's rows."""
    import torch

    from tokswap.solvers.lengths import spread_factors
    from tokswap.solvers.sparse import SparseRows

    alignment, table = problem.alignment, problem.base_table()
    used = SparseRows.mean_of(alignment.used_base_ids.tolist(), alignment.base_rows)
    factors = spread_factors(weights, table, used.apply(table), most=_MOST)
    rest = SparseRows.from_padded(
        torch.full((len(factors), 1), problem.mean_column), 1 - factors[:, None], problem.columns
    )
    return weights.scaled(factors).combine(rest, 1, 1)
