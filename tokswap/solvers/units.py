"""Rows at unit norm."""

import torch
from torch import Tensor


def unit(rows: Tensor) -> Tensor:
    """Return rows (…, E) at unit norm, in their own type; zero rows stay zero."""
    # Through the largest entry, because squares of large or small entries leave the type's range.
    top = rows.abs().amax(dim=-1, keepdim=True)
    scaled = rows / torch.where(top > 0, top, 1)
    norms = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(norms > 0, norms, 1)
