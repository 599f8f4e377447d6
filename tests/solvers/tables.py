"""Random tables that are built like embeddings."""

import torch
from torch import Tensor


def structured(rows: int, width: int, *, seed: int = 0, clusters: int = 32) -> Tensor:
    """Rows with a mean in common, cluster centres, a power-law spectrum and log-normal norms."""
    draw = torch.Generator().manual_seed(width)  # what tables of a width have in common
    spectrum = torch.arange(1, width + 1) ** -0.6
    spectrum /= spectrum.norm()
    mean = 0.5 * torch.nn.functional.normalize(torch.randn(width, generator=draw), dim=0)
    centres = 0.6 * torch.randn(clusters, width, generator=draw) * spectrum
    turn = torch.linalg.qr(torch.randn(width, width, generator=draw)).Q
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(rows, width, generator=draw) * spectrum
    near = centres[torch.randint(clusters, (rows,), generator=draw)]
    lengths = torch.exp(0.3 * torch.randn(rows, 1, generator=draw))
    return torch.nn.functional.normalize((own + near) @ turn + mean, dim=1) * lengths
