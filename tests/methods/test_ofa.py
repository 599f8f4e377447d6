"""OFA: at full rank the weighted average of anchors, at a lower one its projection."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tokswap.methods import Problem
from tokswap.methods.interpolate import Interpolate
from tokswap.methods.ofa import OFA
from tokswap.vocabulary.align import Alignment

Ask = Callable[..., Problem]
SETTINGS = {"k": 7, "temperature": 0.3}


@pytest.fixture(scope="session")
def chosen(alignment: Alignment) -> list[int]:
    return [int(number) for number in alignment.missing[::50]]


def average(ask: Ask, chosen: list[int], base: Tensor) -> Tensor:
    """The softmax average of seven anchors, by another method."""
    answer = Interpolate(weights="softmax", **SETTINGS).fill(ask(chosen, base=base))
    below = torch.cat([torch.zeros(1, base.shape[1]), answer.averages.apply(base)])
    return answer.weights.apply(base, below=below)


def test_full_rank_is_the_average_of_similar_anchors(
    ask: Ask, chosen: list[int], base_table: Tensor
) -> None:
    answer, same = (kind(**SETTINGS).fill(ask(chosen)) for kind in (OFA, Interpolate))
    assert torch.equal(answer.weights.indices, same.weights.indices)
    assert torch.equal(answer.weights.weights, same.weights.weights)
    rows = OFA(rank=base_table.shape[1], **SETTINGS).fill(ask(chosen))
    wanted = average(ask, chosen, base_table)
    torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 9])
def test_coordinates_times_primitive_rows(
    rank: int, ask: Ask, chosen: list[int], alignment: Alignment, base_table: Tensor
) -> None:
    scales = torch.linspace(3, 0.1, base_table.shape[1])  # some directions matter more
    base = base_table * scales
    rows = OFA(rank=rank, outliers=None, **SETTINGS).fill(ask(chosen, base=base))
    used = base[alignment.used_base_ids].double().numpy()
    primitive = np.linalg.svd(used, full_matrices=False)[2][:rank]
    wanted = average(ask, chosen, base).double().numpy() @ primitive.T @ primitive
    np.testing.assert_allclose(rows.numpy(), wanted, rtol=0, atol=1e-4)
    assert OFA(rank=rank).needs_base


def test_untrained_rows_are_no_part_of_the_factors(
    ask: Ask, chosen: list[int], alignment: Alignment, base_table: Tensor
) -> None:
    """Many equal rows of great length would be the first primitive row."""
    anchored = set(alignment.source[alignment.anchors].tolist())
    odd = [n for n in alignment.used_base_ids.tolist() if n not in anchored][:100]
    base = base_table.clone()
    base[odd] = 0.0
    base[odd, 3] = 1e3
    kept = OFA(rank=8, **SETTINGS).fill(ask(chosen, base=base))
    without = base_table.clone()
    without[odd] = 0.0
    wanted = OFA(rank=8, **SETTINGS).fill(ask(chosen, base=without))
    torch.testing.assert_close(kept, wanted, rtol=0, atol=1e-3)
