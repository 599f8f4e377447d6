"""The methods that fill the rows of missing tokens: one file each, one line each in ``METHODS``."""

from collections.abc import Mapping

from tokswap.methods.answer import Answer
from tokswap.methods.base import ROLES, Method, Problem, Role, Side, WithAverages
from tokswap.methods.clp import CLP
from tokswap.methods.cost import Cost, Sizes
from tokswap.methods.focus import Focus
from tokswap.methods.hypernet import Hypernet
from tokswap.methods.interpolate import Interpolate
from tokswap.methods.landmarks import Landmarks
from tokswap.methods.mean import Mean
from tokswap.methods.mix import Mix
from tokswap.methods.normal import Normal
from tokswap.methods.ofa import OFA
from tokswap.methods.omp import OMP
from tokswap.methods.omp_pieces import OMPPieces
from tokswap.methods.pieces import Pieces
from tokswap.methods.pieces_presets import FVT, ReTok, TransplantVocab
from tokswap.methods.procrustes import Procrustes
from tokswap.methods.ridge import Ridge
from tokswap.methods.tokenadapt import TokenAdapt
from tokswap.methods.transtokenizer import TransTokenizer
from tokswap.methods.wechsel import Wechsel
from tokswap.methods.zero import Zero

METHODS: Mapping[str, type[Method]] = {
    # By the donor's rows of shared tokens.
    "omp-pieces": OMPPieces,
    "omp": OMP,
    "interpolate": Interpolate,
    "clp": CLP,
    "ofa": OFA,
    "procrustes": Procrustes,
    "ridge": Ridge,
    "landmarks": Landmarks,
    # By what tokens mean in texts.
    "tokenadapt": TokenAdapt,
    "focus": Focus,
    "wechsel": Wechsel,
    "transtokenizer": TransTokenizer,
    # By the token's bytes.
    "pieces": Pieces,
    "retok": ReTok,
    "fvt": FVT,
    "transplant-vocab": TransplantVocab,
    "hypernet": Hypernet,
    # By nothing of the token's own.
    "mean": Mean,
    "normal": Normal,
    "zero": Zero,
    # By several of them.
    "mix": Mix,
}

DEFAULT = "omp-pieces"


def needing_donor(*, needed: bool = True) -> list[str]:
    """Name the methods that read the donor's weights, as they are without settings; or the rest."""
    return [name for name, kind in METHODS.items() if kind().needs_donor == needed]


__all__ = [
    "DEFAULT",
    "METHODS",
    "ROLES",
    "Answer",
    "Cost",
    "Method",
    "Problem",
    "Role",
    "Side",
    "Sizes",
    "WithAverages",
    "needing_donor",
]
