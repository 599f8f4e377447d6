"""How much shorter a mean is than what it is made of."""

import pytest
import torch

from tokswap.solvers.lengths import spread_factors
from tokswap.solvers.sparse import SparseRows

MEAN = torch.tensor([[10.0, 0.0]])
TABLE = torch.tensor([[13.0, 0.0], [10.0, 4.0], [7.0, 0.0], [10.0, 0.0]])


def factors(*rows: dict[int, float], most: float = 3.0) -> list[float]:
    weights = SparseRows.from_lists(
        [list(row) for row in rows], [list(row.values()) for row in rows], 5
    )
    found: list[float] = spread_factors(weights, TABLE, MEAN, most=most).tolist()
    return found


def test_a_copy_is_long_enough() -> None:
    assert factors({0: 1.0}, {1: 1.0}) == pytest.approx([1, 1])


def test_a_mean_is_too_short() -> None:
    # (1.5, 2) off the mean is 2.5 long, of parts that are 3 and 4 long
    assert factors({0: 0.5, 1: 0.5}) == pytest.approx([3.5 / 2.5])


def test_what_cancels_is_lengthened_so_much_and_no_more() -> None:
    assert factors({0: 0.51, 2: 0.49}, most=7.0) == pytest.approx([7])


def test_the_mean_is_left_alone() -> None:
    assert factors({3: 1.0}, {4: 1.0}, {3: 0.5, 4: 0.5}) == pytest.approx([1, 1, 1])
    # half the mean and half a copy: as far from the mean as its parts are on average
    assert factors({0: 0.5, 4: 0.5}) == pytest.approx([1])


def test_what_is_lengthened_differs_as_much_as_its_parts() -> None:
    table = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) + 3
    mean = table.mean(dim=0, keepdim=True)
    picks = torch.randint(0, 40, (25, 3), generator=torch.Generator().manual_seed(1))
    weights = SparseRows.from_padded(picks, torch.full((25, 3), 1 / 3), 41)
    found = spread_factors(weights, table, mean, most=100.0)
    rest = SparseRows.from_padded(torch.full((25, 1), 40), 1 - found[:, None], 41)
    made = weights.scaled(found).combine(rest, 1, 1).apply(table, below=mean)
    wanted = (table[picks] - mean).norm(dim=2).mean(dim=1)
    torch.testing.assert_close((made - mean).norm(dim=1), wanted)
