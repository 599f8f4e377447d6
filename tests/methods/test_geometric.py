"""The methods on the donor's geometry where the answer is known, and where there is none."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tokswap.errors import MethodError
from tokswap.methods import METHODS, Problem, WithAverages
from tokswap.methods.interpolate import Interpolate
from tokswap.methods.landmarks import Landmarks
from tokswap.methods.pieces import Pieces
from tokswap.methods.procrustes import Procrustes
from tokswap.methods.ridge import Ridge
from tokswap.vocabulary.align import Alignment

Ask = Callable[..., Problem]
GEOMETRIC = ["omp", "interpolate", "procrustes", "ridge", "landmarks", "clp", "ofa"]
SETTINGS: dict[str, dict[str, Any]] = {"omp": {"k": 6}, "landmarks": {"count": 40}}
SHIFT = 3.0

every_geometric = pytest.mark.parametrize("name", GEOMETRIC)


def rows_of(answer: WithAverages | Tensor, table: Tensor) -> Tensor:
    """The rows that an answer makes of the base's table."""
    if isinstance(answer, Tensor):
        return answer
    mean = torch.zeros(1, table.shape[1])  # which no token of these needs
    return answer.weights.apply(table, below=torch.cat([mean, answer.averages.apply(table)]))


class Turned(NamedTuple):
    ids: list[int]
    base: Tensor
    donor: Tensor
    wanted: Tensor


def turned(alignment: Alignment, width: int, base_width: int) -> Turned:
    """A base that is the donor turned, scaled and shifted, for every token that both have."""
    generator = torch.Generator().manual_seed(4)
    donor = torch.randn(alignment.rows, width, generator=generator)
    square = torch.randn(base_width, base_width, generator=generator)
    rotation = torch.linalg.qr(square).Q[:width]
    image = 0.25 * donor @ rotation + SHIFT
    base = torch.randn(alignment.base_rows, base_width, generator=generator)
    base[alignment.source[alignment.anchors]] = image[alignment.anchors]
    ids = [int(number) for number in alignment.missing[::50]]
    return Turned(ids, base, donor, image[ids])


@pytest.mark.parametrize("base_width", [16, 24])
@pytest.mark.parametrize(
    "method",
    [Procrustes(), Ridge(penalty=0.0), Ridge(), Landmarks(penalty=0.0, count=60)],
    ids=["procrustes", "ridge", "ridge-gcv", "landmarks"],
)
def test_a_turned_donor_gives_the_turned_rows(
    method: Any, base_width: int, ask: Ask, alignment: Alignment
) -> None:
    plant = turned(alignment, 16, base_width)
    problem = ask(plant.ids, base=plant.base, donor=plant.donor)
    rows = rows_of(method.fill(problem), plant.base)
    torch.testing.assert_close(rows, plant.wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("weights", ["barycentric", "least_squares"])
@pytest.mark.parametrize("center", [True, False])
def test_a_mixture_of_neighbours_is_found_and_replayed(
    weights: str, center: bool, ask: Ask, alignment: Alignment, base_table: Tensor
) -> None:
    generator = torch.Generator().manual_seed(5)
    donor = torch.randn(alignment.rows, 400, generator=generator)
    ids = [int(number) for number in alignment.missing[5::60]]
    anchors = torch.from_numpy(alignment.anchors)[: 3 * len(ids)].reshape(-1, 3)
    parts = torch.tensor([0.4, 0.35, 0.25])
    donor[ids] = (donor[anchors] * parts[:, None]).sum(dim=1)
    method = Interpolate(weights=weights, center=center, k=6, outliers=None)
    answer = method.fill(ask(ids, donor=donor))
    sources = torch.from_numpy(alignment.source)[anchors]
    for row, said in enumerate(sources.tolist()):
        found = dict(answer.weights.row(row))
        assert {n: found.pop(n) for n in said} == pytest.approx(
            dict(zip(said, parts.tolist(), strict=True)), abs=1e-4
        )
        assert max(abs(weight) for weight in found.values()) < 1e-4
    wanted = (base_table[sources] * parts[:, None]).sum(dim=1)
    torch.testing.assert_close(rows_of(answer, base_table), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("weights", ["inverse_distance", "softmax"])
def test_a_twin_of_an_anchor_is_that_anchor(
    weights: str, ask: Ask, alignment: Alignment, donor_table: Tensor
) -> None:
    number, anchor = int(alignment.missing[3]), int(alignment.anchors[9])
    donor = donor_table.clone()
    donor[number] = donor[anchor]
    method = Interpolate(weights=weights, temperature=1e-3, center=False, outliers=None)
    found = dict(method.fill(ask([number], donor=donor)).weights.row(0))
    assert found[int(alignment.source[anchor])] == pytest.approx(1.0)


def test_weights_by_distance_are_the_softmax_of_cosines(
    ask: Ask, alignment: Alignment, donor_table: Tensor
) -> None:
    number = int(alignment.missing[3])
    answer = Interpolate(k=5, temperature=0.2, center=False, outliers=None).fill(ask([number]))
    anchors = donor_table[alignment.anchors]
    cosines = torch.nn.functional.cosine_similarity(donor_table[number][None], anchors)
    values, places = cosines.topk(5)
    sources = alignment.source[alignment.anchors][places]
    wanted = dict(zip(sources.tolist(), torch.softmax(values / 0.2, dim=0).tolist(), strict=True))
    assert dict(answer.weights.row(0)) == pytest.approx(wanted, rel=1e-4)


def test_a_wider_donor_is_turned_by_what_agrees(ask: Ask, alignment: Alignment) -> None:
    """Of a donor with directions that the base lacks, those are dropped."""
    plant = turned(alignment, 16, 16)
    noise = torch.randn(len(plant.donor), 8, generator=torch.Generator().manual_seed(6))
    wide = torch.cat([plant.donor, 1e-3 * noise], dim=1)
    problem = ask(plant.ids, base=plant.base, donor=wide)
    torch.testing.assert_close(Procrustes().fill(problem), plant.wanted, rtol=0, atol=1e-2)


def test_without_scale_lengths_are_the_donors(ask: Ask, alignment: Alignment) -> None:
    plant = turned(alignment, 16, 24)
    problem = ask(plant.ids, base=plant.base, donor=plant.donor)
    rows = Procrustes(scale=False, outliers=None).fill(problem)
    middle = plant.donor[alignment.anchors].mean(dim=0)
    base_middle = plant.base[alignment.source[alignment.anchors]].mean(dim=0)
    torch.testing.assert_close(
        (rows - base_middle).norm(dim=1), (plant.donor[plant.ids] - middle).norm(dim=1)
    )


def test_a_penalty_draws_rows_to_the_mean(ask: Ask, alignment: Alignment) -> None:
    plant = turned(alignment, 16, 24)
    problem = ask(plant.ids, base=plant.base, donor=plant.donor)
    rows = Ridge(penalty=1e9).fill(problem)
    mean = plant.base[alignment.source[alignment.anchors]].mean(dim=0)
    torch.testing.assert_close(rows, mean.expand(len(rows), -1), rtol=0, atol=1e-4)


def test_landmarks_are_chosen_by_the_seed(ask: Ask, alignment: Alignment) -> None:
    number = int(alignment.missing[0])

    def used(seed: int, **settings: Any) -> set[int]:
        method = Landmarks(count=20, center=False, **settings)
        return {column for column, _ in method.fill(ask([number], seed=seed)).weights.row(0)}

    assert len(used(1)) == 20
    assert used(1) <= set(alignment.source[alignment.anchors].tolist())
    assert used(1) == used(1) != used(2)
    assert len(used(1, choice="farthest") & used(2, choice="farthest")) < 20  # another first one


@every_geometric
def test_a_token_without_a_donor_row_is_made_of_its_pieces(
    name: str, ask: Ask, alignment: Alignment, donor_table: Tensor, base_table: Tensor
) -> None:
    last = int(alignment.missing[-1])
    ids = [int(alignment.missing[7]), int(alignment.missing[8]), last]
    donor = donor_table[:last].clone()
    donor[ids[0]] = 0
    answer = METHODS[name](**SETTINGS.get(name, {})).fill(ask(ids, donor=donor))
    mean = base_table[alignment.used_base_ids].mean(dim=0, keepdim=True)
    by_pieces = Pieces().fill(ask(ids)).apply(base_table, below=mean)
    rows = rows_of(answer, base_table)
    torch.testing.assert_close(rows[[0, 2]], by_pieces[[0, 2]], rtol=0, atol=1e-5)
    assert not torch.allclose(rows[1], by_pieces[1], atol=0.1)


def test_a_token_without_pieces_is_the_mean_of_the_used_rows(
    ask: Ask, alignment: Alignment, donor_table: Tensor, base_table: Tensor
) -> None:
    number = int(alignment.missing[7])
    donor, pieces = donor_table.clone(), dict(alignment.pieces)
    donor[number] = 0
    alignment.pieces[number] = []
    try:
        (row,) = Ridge().fill(ask([number], donor=donor))
    finally:
        alignment.pieces.update(pieces)
    torch.testing.assert_close(row, base_table[alignment.used_base_ids].mean(dim=0))


@pytest.mark.parametrize(
    ("name", "side"),
    [(name, "donor") for name in GEOMETRIC]
    + [(name, "base") for name in GEOMETRIC if METHODS[name]().needs_base],
)
def test_a_damaged_anchor_is_refused(
    name: str, side: str, ask: Ask, alignment: Alignment, donor_table: Tensor, base_table: Tensor
) -> None:
    method = METHODS[name](**SETTINGS.get(name, {}))
    tables = {"donor": donor_table.clone(), "base": base_table.clone()}
    anchor = alignment.anchors[9]
    tables[side][anchor if side == "donor" else alignment.source[anchor], 3] = float("nan")
    with pytest.raises(MethodError, match=rf"^{name} cannot work with .* the {side} .* NaN"):
        method.fill(ask([int(alignment.missing[0])], **tables))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Interpolate(k=9999),
            r"interpolate with k=9999 needs 9999 anchors, and .*; lower method.k",
        ),
        (
            Interpolate(k=41, weights="barycentric"),
            r"k=41 and barycentric weights .* than 'tiny-mistral' has dimensions \(40\)",
        ),
        (Landmarks(count=9999), r"count=9999 needs 9999 anchors, .*; lower method.count or choose"),
    ],
)
def test_more_than_there_is_is_refused(method: Any, message: str, ask: Ask) -> None:
    with pytest.raises(MethodError, match=message):
        method.fill(ask([3]))


@pytest.mark.parametrize(
    ("method", "anchors", "message"),
    [
        (Procrustes(), 24, "rows of width 40 and 24 needs 25 anchors, and .* shares 24 tokens"),
        (Procrustes(center=False), 23, "needs 24 anchors"),
        (Ridge(penalty=0.0), 40, "penalty=0 needs 41 anchors, .*; raise method.penalty or choose"),
        (Ridge(), 1, "ridge with any penalty needs 2 anchors"),
    ],
)
def test_too_few_anchors_for_a_map_are_refused(
    method: Any, anchors: int, message: str, ask: Ask, alignment: Alignment, donor_table: Tensor
) -> None:
    few = int(alignment.anchors[anchors])  # the first of those that have no row
    given = {"donor": donor_table[:few], "ids": [0]}
    method = method.model_copy(update={"outliers": None})
    with pytest.raises(MethodError, match=message):
        method.fill(ask(**given))
    more = ask([0], donor=donor_table[: int(alignment.anchors[anchors + 1])])
    assert bool(rows_of(method.fill(more), torch.empty(0)).isfinite().all())
