"""Weights by cosines, and averages over all atoms."""

import pytest
import torch

from tokswap.solvers.similarity import average, share


def test_shares_are_positive_parts_next_to_their_sum() -> None:
    cosines = torch.tensor([[0.5, 0.25, -1.0], [-0.5, -0.1, -0.1], [0.0, 1.0, 1.0]])
    wanted = torch.tensor([[2 / 3, 1 / 3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(share(cosines), wanted)


def test_unused_slots_have_no_share() -> None:
    assert share(torch.tensor([[0.2, -torch.inf]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("block", [1, 16, 1000, None])
def test_the_average_is_the_product_with_the_shares(block: int | None) -> None:
    draw = torch.Generator().manual_seed(1)
    shapes = (50, 12), (80, 12), (80, 5)
    targets, atoms, rows = (torch.randn(*shape, generator=draw) for shape in shapes)
    cosines = torch.nn.functional.cosine_similarity(targets[:, None], atoms[None], dim=2)
    found = average(targets, atoms, rows, block=block)
    torch.testing.assert_close(found, share(cosines) @ rows, rtol=0, atol=1e-5)


def test_a_row_for_each_atom_is_needed() -> None:
    with pytest.raises(ValueError, match="2 rows for 3 atoms"):
        average(torch.ones(1, 4), torch.ones(3, 4), torch.ones(2, 4))
