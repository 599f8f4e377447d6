"""Orthogonal matching pursuit on tokens: planted answers, a reference, and what it cannot solve."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from tokswap.errors import MethodError
from tokswap.methods import Problem
from tokswap.methods.cost import Sizes
from tokswap.methods.omp import OMP
from tokswap.methods.pieces import Pieces
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment

Ask = Callable[..., Problem]
PARTS = torch.tensor([2.0, -1.5, 1.0])


class Planted(NamedTuple):
    ids: list[int]
    anchors: Tensor  # (M, 3) donor ids
    donor: Tensor


@pytest.fixture
def planted(alignment: Alignment) -> Planted:
    """A donor table in which some missing rows are combinations of three anchors' rows."""
    generator = torch.Generator().manual_seed(5)
    donor = torch.randn(alignment.rows, 256, generator=generator)
    ids = [int(number) for number in alignment.missing[5::60]]
    chosen = torch.randperm(len(alignment.anchors), generator=generator)[: 3 * len(ids)]
    anchors = torch.from_numpy(alignment.anchors)[chosen].reshape(len(ids), 3)
    donor[ids] = (donor[anchors] * PARTS[:, None]).sum(dim=1)
    return Planted(ids, anchors, donor)


def omp(**settings: Any) -> Callable[[Problem], SparseRows]:
    """The textbook's algorithm on all anchors, without our defaults around it."""
    method = OMP(**({"center": False, "outliers": None} | settings))
    return lambda problem: method.fill(problem).weights


def entries(filled: SparseRows, row: int) -> dict[int, float]:
    return dict(filled.row(row))


@pytest.mark.parametrize("normalize", [True, False])
def test_planted_combinations_are_found_and_replayed(
    normalize: bool, ask: Ask, alignment: Alignment, planted: Planted, base_table: Tensor
) -> None:
    filled = omp(k=6, normalize=normalize)(ask(planted.ids, donor=planted.donor))
    sources = torch.from_numpy(alignment.source)[planted.anchors]
    for row, ids in enumerate(sources.tolist()):
        expected = dict(zip(ids, PARTS.tolist(), strict=True))
        assert entries(filled, row) == pytest.approx(expected, rel=1e-4)
    rows = filled.apply(torch.cat([base_table, torch.full((2, base_table.shape[1]), torch.nan)]))
    expected_rows = (base_table[sources] * PARTS[:, None]).sum(dim=1)
    torch.testing.assert_close(rows, expected_rows, rtol=1e-4, atol=1e-4)


def test_a_coarse_tolerance_ends_the_search(ask: Ask, planted: Planted) -> None:
    filled = omp(k=6, rtol=0.75)(ask(planted.ids, donor=planted.donor))
    assert all(1 <= len(filled.row(row)) < 3 for row in range(len(planted.ids)))


def test_equals_scikit_learn(ask: Ask, alignment: Alignment) -> None:
    donor = torch.randn(alignment.rows, 64, generator=torch.Generator().manual_seed(6))
    donor /= donor.norm(dim=1, keepdim=True)
    ids = [int(number) for number in alignment.missing[::200]]
    filled = omp(k=8, rtol=0)(ask(ids, donor=donor))
    wanted = orthogonal_mp(
        donor[alignment.anchors].double().numpy().T,
        donor[ids].double().numpy().T,
        n_nonzero_coefs=8,
    )
    found = np.zeros((alignment.base_rows, len(ids)))
    for row in range(len(ids)):
        for column, weight in filled.row(row):
            found[column, row] = weight
    np.testing.assert_allclose(found[alignment.source[alignment.anchors]], wanted, atol=1e-4)


def test_a_token_without_a_donor_row_is_made_of_its_pieces(
    ask: Ask, alignment: Alignment, planted: Planted
) -> None:
    last = int(alignment.missing[-1])
    ids = [planted.ids[0], planted.ids[1], last]
    donor = planted.donor[:last].clone()  # shorter than the vocabulary
    donor[ids[0]] = 0
    filled = omp(k=6)(ask(ids, donor=donor))
    pieces = Pieces().fill(ask([ids[0], last]))
    assert [filled.row(0), filled.row(2)] == [pieces.row(0), pieces.row(1)]
    assert filled.row(1) != Pieces().fill(ask([ids[1]])).row(0)


def test_nothing_but_pieces_where_no_token_has_a_donor_row(
    ask: Ask, alignment: Alignment, planted: Planted
) -> None:
    last = int(alignment.missing[-1])
    filled = omp(k=6)(ask([last], donor=planted.donor[:last]))
    assert filled.row(0) == Pieces().fill(ask([last])).row(0)


def test_an_untrained_anchor_is_not_used(ask: Ask, planted: Planted, alignment: Alignment) -> None:
    donor = planted.donor.clone()
    anchor = int(planted.anchors[0, 0])
    donor[anchor] *= 1e-5  # still the best by angle
    filled = omp(k=6)(ask(planted.ids[:1], donor=donor))
    assert max(abs(weight) for weight in entries(filled, 0).values()) > 1e4
    filled = omp(k=6, outliers=4.0)(ask(planted.ids[:1], donor=donor))
    assert int(alignment.source[anchor]) not in entries(filled, 0)
    assert max(abs(weight) for weight in entries(filled, 0).values()) < 10


def test_an_anchor_that_is_odd_in_the_base_is_not_used(
    ask: Ask, planted: Planted, alignment: Alignment, base_table: Tensor
) -> None:
    source = int(alignment.source[planted.anchors[0, 0]])
    base = base_table.clone()
    base[source] *= 50
    problem = ask(planted.ids[:1], donor=planted.donor, base=base)
    assert source in entries(omp(k=6)(problem), 0)
    assert source not in entries(omp(k=6, outliers=4.0)(problem), 0)


def test_rows_of_one_length_are_no_outliers(ask: Ask, planted: Planted, base_table: Tensor) -> None:
    donor, base = (table / table.norm(dim=1, keepdim=True) for table in (planted.donor, base_table))
    problem = ask(planted.ids, donor=donor, base=base)
    assert omp(k=6, outliers=1.0)(problem).row(0) == omp(k=6)(problem).row(0)


def test_centred_rows_follow_an_affine_map(ask: Ask, alignment: Alignment) -> None:
    """Where the base's space is an affine image of the donor's, so are the new rows."""
    generator = torch.Generator().manual_seed(8)
    donor = torch.randn(alignment.rows, 64, generator=generator)
    ids = [int(number) for number in alignment.missing[::100]]
    chosen = torch.from_numpy(alignment.anchors)[torch.arange(3 * len(ids)).reshape(-1, 3)]
    parts = torch.tensor([0.75, -0.5, 0.75])  # they add up to 1, as an affine combination's do
    donor[ids] = (donor[chosen] * parts[:, None]).sum(dim=1)
    turn, shift = torch.randn(64, 24, generator=generator), 5 * torch.randn(24, generator=generator)
    base = torch.zeros(alignment.base_rows, 24)
    base[alignment.source[alignment.anchors]] = (donor @ turn + shift)[alignment.anchors]
    problem = ask(ids, donor=donor, base=base)
    found = OMP(k=12, outliers=None).fill(problem)
    averages = torch.cat([base[:1], found.averages.apply(base)])  # the base's mean is not used
    rows = found.weights.apply(base, below=averages)
    torch.testing.assert_close(rows, (donor @ turn + shift)[ids], rtol=1e-3, atol=1e-2)


def test_by_inner_product_long_rows_win(ask: Ask, alignment: Alignment) -> None:
    number, (short, long, *_) = int(alignment.missing[0]), alignment.anchors.tolist()
    donor = torch.zeros(alignment.rows, 8)
    donor[alignment.anchors, 7] = 1.0  # the others are at a right angle
    donor[number, 0] = donor[short, 0] = 1.0
    donor[short, 7] = 0.0
    donor[long, :2] = torch.tensor([2.0, 3.0])
    by_angle = omp(k=1)(ask([number], donor=donor))
    by_product = omp(k=1, normalize=False)(ask([number], donor=donor))
    assert list(entries(by_angle, 0)) == [alignment.source[short]]
    assert list(entries(by_product, 0)) == [alignment.source[long]]


def test_more_atoms_than_anchors_are_refused(ask: Ask, alignment: Alignment) -> None:
    shared = len(alignment.anchors)
    donor = torch.ones(alignment.rows, 8)
    with pytest.raises(MethodError, match=rf"k={shared + 1} .* shares {shared} tokens"):
        omp(k=shared + 1)(ask([3], donor=donor))


def test_more_atoms_than_dimensions_are_refused(ask: Ask) -> None:
    with pytest.raises(MethodError, match=r"k=41 .* than 'tiny-mistral' has dimensions \(40\)"):
        omp(k=41)(ask([3]))


def test_as_many_atoms_as_dimensions_will_do(ask: Ask, alignment: Alignment) -> None:
    assert len(omp(k=40)(ask([int(alignment.missing[0])])).row(0)) <= 40


@pytest.mark.parametrize("place", ["target", "anchor"])
def test_a_damaged_donor_is_refused(
    place: str, ask: Ask, alignment: Alignment, donor_table: Tensor
) -> None:
    number = int(alignment.missing[0])
    damaged = donor_table.clone()
    damaged[number if place == "target" else alignment.anchors[9], 3] = float("nan")
    with pytest.raises(MethodError, match=r"'tiny-mistral'.* NaN"):
        omp(k=6)(ask([number], donor=damaged))


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (40, None),
        (41, r"more coefficients than 'tiny-mistral' has dimensions \(40\)"),
        (100_000, "needs 100000 anchors, and 'tiny-mistral' shares"),
    ],
)
def test_a_k_that_is_too_large_is_refused_by_the_sizes(alignment, k, message) -> None:
    sizes = Sizes(alignment, base_width=24, donor_width=40)
    if message is None:
        OMP(k=k).check(sizes)
    else:
        with pytest.raises(MethodError, match=message):
            OMP(k=k).check(sizes)
    OMP(k=k).check(Sizes(alignment, base_width=24, donor_width=0))  # a bare tokenizer: said later
