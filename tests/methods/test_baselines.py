"""The mean, zeros, and samples with the moments of the base's rows."""

from collections.abc import Callable

import pytest
import torch

from tokswap.errors import MethodError
from tokswap.methods import Problem
from tokswap.methods.mean import Mean
from tokswap.methods.normal import Normal
from tokswap.methods.zero import Zero
from tokswap.vocabulary.align import Alignment

Ask = Callable[..., Problem]


def test_mean_is_the_mean_column_alone(ask: Ask, alignment: Alignment) -> None:
    filled = Mean().fill(ask([10, 11]))
    assert [filled.row(row) for row in range(2)] == [[(alignment.base_rows, 1.0)]] * 2


def test_zero_has_no_weights(ask: Ask, alignment: Alignment) -> None:
    filled = Zero().fill(ask([10, 11]))
    assert [filled.row(row) for row in range(2)] == [[], []]


def test_normal_takes_the_moments_of_the_used_rows(ask: Ask, alignment: Alignment) -> None:
    width = 3
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-1.0, 0.3, 0.5]])
    noise = torch.randn(alignment.base_rows, width, generator=torch.Generator().manual_seed(3))
    table = noise @ mixing + torch.tensor([5.0, -5.0, 0.0])
    used = table[alignment.used_base_ids]
    unused = torch.ones(len(table), dtype=torch.bool)
    unused[alignment.used_base_ids] = False
    assert 0 < int(unused.sum()) < 20
    table[unused] = 1e6
    ids = [int(number) for number in alignment.missing]
    rows = Normal().fill(ask(ids, base=table))
    near = 6 / len(ids) ** 0.5  # six standard errors of a mean of unit variance
    spread = used.std(dim=0)
    assert bool(((rows.mean(dim=0) - used.mean(dim=0)).abs() < near * spread).all())
    difference = torch.cov(rows.T) - torch.cov(used.T)
    assert bool((difference.abs() < 2 * near * spread[:, None] * spread).all())


def test_normal_with_scale_zero_is_the_mean(ask: Ask, alignment: Alignment, base_table) -> None:
    rows = Normal(scale=0).fill(ask([10, 11]))
    mean = base_table[alignment.used_base_ids].mean(dim=0)
    torch.testing.assert_close(rows, mean.expand(2, -1), rtol=0, atol=1e-6)


def test_normal_depends_on_the_seed(ask: Ask) -> None:
    first, second = (Normal().fill(ask([10], seed=seed)) for seed in (1, 2))
    assert not torch.equal(first, second)


def test_normal_refuses_a_damaged_table(ask: Ask, base_table) -> None:
    damaged = base_table.clone()
    damaged[100, 3] = float("nan")
    with pytest.raises(MethodError, match=r"input rows of 'tiny-llama', which hold NaN"):
        Normal().fill(ask([10], base=damaged))
