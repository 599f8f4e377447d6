"""Published methods that are one choice of the weights of ``pieces``, under their own names."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tokswap.methods.base import Method, Problem
from tokswap.methods.cost import Cost, Sizes
from tokswap.methods.pieces import Decay, Pieces

if TYPE_CHECKING:
    from tokswap.solvers.sparse import SparseRows


class Preset(Method):
    """The rows of the pieces, with weights that are said already."""

    @property
    @abstractmethod
    def pieces(self) -> Pieces:
        """The method that it stands for."""

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return self.pieces.differs_by_role

    def cost(self, sizes: Sizes) -> Cost:
        """See :meth:`Method.cost`."""
        return self.pieces.cost(sizes)

    def fill(self, problem: Problem) -> "SparseRows":
        """See :meth:`Method.fill`."""
        return self.pieces.fill(problem)


class ReTok(Preset):
    """The mean of the pieces' rows in both roles, with which ReTok begins its training."""

    summary: ClassVar[str] = "the mean of the token's pieces, in both roles"
    paper: ClassVar[str] = "ReTok (Gu et al., arXiv 2410.04335)"

    @property
    def pieces(self) -> Pieces:
        """See :attr:`Preset.pieces`."""
        return Pieces()


class FVT(Preset):
    """Fast vocabulary transfer: the mean of the pieces' rows.

    Its published code takes the mark of a word's start off before it cuts a token, so that ``Ġfoo``
    and ``foo`` have one row. Here the space is one of the token's bytes like any other.
    """

    summary: ClassVar[str] = "the mean of the token's pieces, its space among them"
    paper: ClassVar[str] = "FVT (Gee et al., EMNLP 2022 industry, 41)"

    @property
    def pieces(self) -> Pieces:
        """See :attr:`Preset.pieces`."""
        return Pieces()


class TransplantVocab(Preset):
    """The last piece's row as input; as output a mean that weighs each later piece by less.

    Its published code decodes a token to text and cuts that, so that tokens which are part of a
    character have one row in common. Here a token's bytes are cut. A base with one table for both
    roles has it filled as input.
    """

    summary: ClassVar[str] = "the last piece as input; as output most of the first piece"
    paper: ClassVar[str] = "transplant-vocab (jukofyork, github.com/jukofyork/transplant-vocab)"

    decay: Decay = 0.5

    @property
    def pieces(self) -> Pieces:
        """See :attr:`Preset.pieces`."""
        return Pieces(strategy="asymmetric", decay=self.decay)
