"""CLP's weights are the cosines in the donor, written out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tokswap.errors import MethodError
from tokswap.methods import Problem
from tokswap.methods.clp import CLP
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary

Ask = Callable[..., Problem]


def cosines(alignment: Alignment, donor: Tensor, ids: list[int], *, center: bool) -> Tensor:
    """(M, N) by numpy, in float64."""
    rows = donor.double().numpy()
    middle = rows[alignment.anchors].mean(axis=0) if center else 0.0
    targets, anchors = rows[ids] - middle, rows[alignment.anchors] - middle
    lengths = np.linalg.norm(targets, axis=1)[:, None] * np.linalg.norm(anchors, axis=1)
    return torch.from_numpy(targets @ anchors.T / lengths)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_weights_are_the_largest_cosines_next_to_their_sum(
    k: int, center: bool, ask: Ask, alignment: Alignment, donor_table: Tensor
) -> None:
    number = int(alignment.missing[3])
    answer = CLP(k=k, center=center, outliers=None).fill(ask([number]))
    values, places = cosines(alignment, donor_table, [number], center=center)[0].topk(k)
    sources = alignment.source[alignment.anchors[places.numpy()]]
    wanted = dict(zip(sources.tolist(), (values / values.sum()).tolist(), strict=True))
    assert dict(answer.weights.row(0)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("center", [False, True])
def test_over_all_anchors_negative_cosines_are_cut(
    center: bool, ask: Ask, alignment: Alignment, base_table: Tensor, donor_table: Tensor
) -> None:
    ids = [int(number) for number in alignment.missing[:40]]
    rows = CLP(k=None, center=center, outliers=None).fill(ask(ids))
    weights = cosines(alignment, donor_table, ids, center=center).clamp_min(0)
    anchors = base_table[alignment.source[alignment.anchors]].double()
    wanted = weights @ anchors / weights.sum(dim=1, keepdim=True)
    torch.testing.assert_close(rows.double(), wanted, rtol=0, atol=1e-5)


def test_as_many_as_there_are_is_over_all(
    ask: Ask, alignment: Alignment, base_table: Tensor
) -> None:
    ids = [int(number) for number in alignment.missing[:5]]
    all_of_them = CLP(k=len(alignment.anchors), outliers=None).fill(ask(ids))
    mean = torch.zeros(2, base_table.shape[1])
    rows = CLP(k=None, outliers=None).fill(ask(ids))
    torch.testing.assert_close(
        all_of_them.weights.apply(base_table, below=mean), rows, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("k", [3, None])
def test_where_no_cosine_is_above_zero_the_nearest_is_taken(
    k: int | None, ask: Ask, alignment: Alignment, base_table: Tensor, donor_table: Tensor
) -> None:
    number, nearest = int(alignment.missing[3]), int(alignment.anchors[11])
    donor = donor_table.abs() + 0.1
    donor[number] = -1.0
    donor[nearest] = 0.0
    donor[nearest, 0] = 1.0  # the farthest to one side of all, so the least turned away
    method = CLP(k=k, center=False, outliers=None)
    answer = method.fill(ask([number], donor=donor))
    source = int(alignment.source[nearest])
    if k is None:
        torch.testing.assert_close(answer[0], base_table[source])
    else:
        assert answer.weights.row(0) == [(source, 1.0)]


def test_dense_rows_and_weights_say_what_they_are() -> None:
    assert not CLP().needs_base
    assert CLP(k=None).needs_base


@pytest.mark.parametrize(("k", "said"), [(2, "k=2 needs 2"), (None, "all anchors needs 1")])
def test_too_few_anchors_are_refused(
    k: int | None, said: str, ask: Ask, tiny_vocabulary: Callable[..., Vocabulary]
) -> None:
    base, donor = tiny_vocabulary("base", ["a"]), tiny_vocabulary("donor", ["b", "c"])
    none = align(base, donor, base_rows=1, rows=2)
    table = torch.ones(2, 3)
    with pytest.raises(MethodError, match=rf"clp with {said} anchors, and 'donor' shares 0 tokens"):
        CLP(k=k).fill(ask([0], given=none, base=table[:1], donor=table))
