"""Untrained rows, planted among the rows of trained models, are found; the trained ones are not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokswap.solvers.untrained import untrained_rows

BUNDLED = Path(__file__).parents[2] / "tokswap" / "bundled"
INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
TABLES = [("tiny-llama", INPUT), ("tiny-mistral", INPUT), ("tiny-mistral", OUTPUT)]
PLANTED = 100
Plant = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def trained(model: str, name: str) -> Tensor:
    """The rows of a trained model, without those that its own training has never touched."""
    table = load_file(BUNDLED / model / "model.safetensors")[name]
    lengths = table.float().norm(dim=1)
    # In training these stayed short (a separate embedding) or got long (a table with a head).
    kept = lengths > 0.6 if (model, name) == TABLES[1] else lengths < 2.9
    return table[kept]


def zeros(rows: Tensor, count: Tensor, _: torch.Generator) -> Tensor:
    return torch.zeros(len(count), rows.shape[1])


def small(rows: Tensor, count: Tensor, draw: torch.Generator) -> Tensor:
    spread = 0.05 * rows.norm(dim=1).median() / rows.shape[1] ** 0.5
    return torch.randn(len(count), rows.shape[1], generator=draw) * spread


def duplicates(rows: Tensor, count: Tensor, _: torch.Generator) -> Tensor:
    return rows[7].expand(len(count), -1) + 0.01


def near_the_mean(rows: Tensor, count: Tensor, draw: torch.Generator) -> Tensor:
    return rows.mean(dim=0) + small(rows, count, draw)


def long_and_alike(rows: Tensor, count: Tensor, draw: torch.Generator) -> Tensor:
    side = torch.randn(rows.shape[1], generator=draw)
    side *= 12 * rows.norm(dim=1).median() / side.norm()
    return side + 0.02 * side.norm() / rows.shape[1] ** 0.5 * torch.randn(
        len(count), rows.shape[1], generator=draw
    )


PLANTS: list[Plant] = [zeros, small, duplicates, near_the_mean, long_and_alike]


def planted(model: str, name: str, plant: Plant) -> tuple[Tensor, Tensor]:
    """Replace some rows of a trained table; return it with the ids of those rows."""
    table = trained(model, name)
    draw = torch.Generator().manual_seed(1)
    ids = torch.randperm(len(table), generator=draw)[:PLANTED].sort().values
    table[ids] = plant(table.float(), ids, draw).to(table.dtype)
    return table, ids


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize(("model", "name"), TABLES)
def test_planted_rows_are_found_and_few_others(model: str, name: str, plant: Plant) -> None:
    table, ids = planted(model, name, plant)
    before = table.clone()
    found = untrained_rows(table)
    assert torch.equal(table, before)
    assert bool(found[ids].all())
    others = int(found.sum()) - PLANTED
    assert others <= 0.01 * len(table)


def test_what_training_has_left_alone_in_the_bundled_models() -> None:
    """Both tables of one model say the same of its tokens, each by a mark of its own."""
    tensors = load_file(BUNDLED / "tiny-mistral" / "model.safetensors")
    never = tensors[INPUT].float().norm(dim=1) < 0.2  # as short as the initialisation made them
    assert 150 < int(never.sum()) < 400
    for name in (INPUT, OUTPUT):
        found = untrained_rows(tensors[name])
        assert int((found & never).sum()) >= 0.99 * int(never.sum())
        assert int((found & ~never).sum()) <= 0.05 * len(found)


def test_rows_of_a_usual_length_are_found_by_where_known_ones_point() -> None:
    table = trained(*TABLES[2]).float()
    draw = torch.Generator().manual_seed(2)
    ids = torch.randperm(len(table), generator=draw)[:PLANTED]
    side = torch.randn(table.shape[1], generator=draw)
    side *= (table - table.mean(dim=0)).norm(dim=1).median() / side.norm()
    noise = 0.1 * side.norm() / table.shape[1] ** 0.5
    table[ids] = (
        table.mean(dim=0) + side + noise * torch.randn(PLANTED, table.shape[1], generator=draw)
    )
    assert not untrained_rows(table)[ids].any()
    found = untrained_rows(table, unused=ids[:10])
    assert bool(found[ids].all())
    assert int(found.sum()) - PLANTED <= 0.01 * len(table)


def test_known_rows_that_look_trained_are_not_found() -> None:
    table = trained(*TABLES[1])
    unused = torch.arange(50, 70)
    assert int(untrained_rows(table, unused=unused)[unused].sum()) <= 2


def test_one_row_of_an_odd_length_is_found() -> None:
    table = trained(*TABLES[1]).float()
    table[11] *= 50
    table[12] /= 50
    assert untrained_rows(table)[11:13].tolist() == [True, True]


def test_many_zeros_do_not_shift_what_is_usual() -> None:
    rows, ids = planted(*TABLES[1], small)
    found = untrained_rows(torch.cat([rows, torch.zeros(3 * len(rows), rows.shape[1]).bfloat16()]))
    assert bool(found[len(rows) :].all())
    assert found[: len(rows)].nonzero()[:, 0].tolist() == ids.tolist()


def test_a_table_of_padding_does_not_shift_what_is_usual() -> None:
    rows = trained(*TABLES[1])
    padding = torch.full((3 * len(rows), rows.shape[1]), 1e-3, dtype=rows.dtype)
    padding += (1e-3 * torch.randn(padding.shape)).to(rows.dtype)
    table = torch.cat([rows, padding])
    found = untrained_rows(table, unused=torch.arange(len(rows), len(table)))
    assert bool(found[len(rows) :].all())
    assert torch.equal(found[: len(rows)], untrained_rows(rows))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_type_is_read(dtype: torch.dtype) -> None:
    table = torch.randn(500, 32, generator=torch.Generator().manual_seed(3)).to(dtype)
    table[[3, 400]] = table[17].clone()
    table[9] = 0
    assert untrained_rows(table).nonzero()[:, 0].tolist() == [3, 9, 17, 400]


def test_a_side_is_pointed_to_however_well_its_rows_agree() -> None:
    draw = torch.Generator().manual_seed(3)
    table = torch.randn(400, 24, generator=draw)
    side, others = torch.linalg.qr(torch.randn(24, 24, generator=draw)).Q.T.tensor_split([1])
    odd = 0.88 * side + (1 - 0.88**2) ** 0.5 * others[:20]  # they agree on it by 0.88
    table[:20], table[20] = 500 * odd, table[21:].mean(dim=0) + 5 * side[0]
    assert untrained_rows(table).nonzero()[:, 0].tolist() == list(range(21))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = planted(*TABLES[0], small)
    whole = untrained_rows(table)
    monkeypatch.setattr("tokswap.solvers.untrained._NUMBERS", 97 * table.shape[1])
    assert torch.equal(untrained_rows(table), whole)


def test_rows_of_one_length_are_usual() -> None:
    table = torch.nn.functional.normalize(
        torch.randn(400, 24, generator=torch.Generator().manual_seed(4)), dim=1
    )
    assert not untrained_rows(table).any()


def test_what_cannot_be_told() -> None:
    assert untrained_rows(torch.zeros(5, 3)).all()
    assert untrained_rows(torch.ones(5, 3)).all()
    assert untrained_rows(torch.zeros(0, 3)).shape == (0,)
    damaged = torch.randn(400, 64, generator=torch.Generator().manual_seed(5))
    damaged[4, 2] = float("nan")
    damaged[6, 1] = float("inf")
    assert untrained_rows(damaged).nonzero()[:, 0].tolist() == []
    assert not untrained_rows(damaged, unused=torch.arange(400)).any()
