"""Random tables that are built like embeddings, for benchmarks of solvers."""

import torch
from torch import Tensor

CLUSTERS, FALL, COMMON, CENTRES, SPREAD = 512, 0.6, 0.5, 0.6, 0.3
"""Cluster centres; the exponent of the spectrum; the shared mean's length and that of the centres,
next to a row's own part; the deviation of the log length."""


def structured(rows: int, width: int, *, seed: int = 0) -> Tensor:
    """Draw rows with a shared mean, cluster centres, a power-law spectrum and log-normal norms."""
    draw = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, width + 1) ** -FALL
    spectrum /= spectrum.norm()
    turn = torch.linalg.qr(torch.randn(width, width, generator=draw)).Q
    mean = COMMON * torch.nn.functional.normalize(torch.randn(width, generator=draw), dim=0)
    centres = CENTRES * torch.randn(CLUSTERS, width, generator=draw) * spectrum
    table = torch.empty(rows, width)
    for start in range(0, rows, 4096):
        part = table[start : start + 4096]
        own = torch.randn(part.shape, generator=draw) * spectrum
        near = centres[torch.randint(CLUSTERS, (len(part),), generator=draw)]
        lengths = torch.exp(SPREAD * torch.randn(len(part), 1, generator=draw))
        part[:] = torch.nn.functional.normalize((own + near) @ turn + mean, dim=1) * lengths
    return table
