"""Factors against numpy's singular value decomposition."""

import numpy as np
import pytest
import torch

from tokswap.solvers.factors import primitives, project


@pytest.mark.parametrize("rank", [1, 4, 10, 99])
def test_primitive_rows_are_the_first_right_singular_vectors(rank: int) -> None:
    draw = torch.Generator().manual_seed(2)
    table = torch.randn(60, 10, generator=draw) * torch.linspace(2, 0.5, 10)
    ids = torch.arange(0, 60, 2)
    found = primitives(table, ids, rank)
    vectors = torch.from_numpy(np.linalg.svd(table[ids].double().numpy())[2][:rank])
    torch.testing.assert_close(found.T @ found, vectors.T @ vectors)
    wanted = (table.double() @ vectors.T @ vectors).float()
    torch.testing.assert_close(project(table, found), wanted)


def test_directions_that_no_row_has_are_no_primitive_rows() -> None:
    table = torch.randn(30, 3, generator=torch.Generator().manual_seed(3))
    wide = torch.nn.functional.pad(table, (0, 4))
    assert primitives(wide, torch.arange(30), 7).shape == (3, 7)
