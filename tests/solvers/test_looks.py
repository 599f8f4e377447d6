"""What a look at all atoms finds, against scores that are computed and sorted whole."""

import pytest
import torch
from torch import Tensor

from solvers.tables import structured
from tokswap.solvers.batch import Batch
from tokswap.solvers.looks import GramLook, Look, ProductLook


def unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def advanced(targets: Tensor, atoms: Tensor, picks: Tensor) -> Batch:
    """A batch whose rows have taken the given atoms, (B, t)."""
    batch = Batch(targets, picks.shape[1] + 1)
    for choice in picks.T:
        batch.take(choice, atoms[choice], rtol=0.0)
    return batch


def expected(
    residual: Tensor, atoms: Tensor, scale: Tensor | None, count: int
) -> tuple[Tensor, Tensor]:
    scores = (residual @ atoms.T).abs() * (1 if scale is None else scale)
    top = scores.topk(count, dim=1)
    return top.indices.sort(dim=1).values, top.values[:, -1]


@pytest.mark.parametrize("atoms", [5, 64, 700, 1023, 3001])
@pytest.mark.parametrize("rows", [1, 15, 40])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_product_finds_the_largest_scores(
    atoms: int, rows: int, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.solvers.looks._SCORES", {"cpu": 1 << 15})  # several blocks
    table, targets = unit(structured(atoms, 24)), unit(structured(50, 24, seed=1))
    scale = torch.linspace(0.5, 2, atoms) if scaled else None
    batch = advanced(targets, table, torch.zeros(50, 1, dtype=torch.int64))
    some = torch.arange(50)[-rows:]
    count = min(64, atoms)
    found, least = ProductLook(table, scale).best(batch, some, count)
    whole = expected(batch.residual[some], table, scale, count)
    assert torch.equal(found, whole[0])
    torch.testing.assert_close(least, whole[1])


@pytest.mark.parametrize("steps", [0, 1, 9])
@pytest.mark.parametrize("scaled", [False, True])
def test_products_of_pairs_find_almost_the_same(steps: int, scaled: bool) -> None:
    table, targets = unit(structured(2100, 64)), unit(structured(60, 64, seed=1))
    scale = torch.linspace(0.5, 2, 2100) if scaled else None
    picks = torch.randint(2100, (60, steps), generator=torch.Generator().manual_seed(5))
    batch = advanced(targets, table, picks)
    look: Look = GramLook(table, scale)
    look.begin(advanced(targets, table, picks[:, :0]))
    some = torch.arange(60)[::2]
    found, least = look.best(batch, some, 64)
    wanted, threshold = expected(batch.residual[some], table, scale, 64)
    common = torch.stack(
        [torch.isin(a, b).float().mean() for a, b in zip(found, wanted, strict=True)]
    )
    assert common.min() > (0.999 if steps == 0 else 0.8)
    torch.testing.assert_close(least, threshold, rtol=0.1, atol=1e-6)
    assert (found.diff(dim=1) > 0).all()


def test_a_small_residual_is_not_looked_at_through_coarse_products() -> None:
    # Of the target next to nothing is left: the stored products would show their rounding alone.
    table = unit(structured(1500, 32))
    targets = unit(table[:20] + 1e-4 * structured(20, 32, seed=3))
    batch = advanced(targets, table, torch.arange(20)[:, None])
    look = GramLook(table, None)
    look.begin(Batch(targets, 2))
    found, least = look.best(batch, torch.arange(20), 64)
    wanted, threshold = expected(batch.residual, table, None, 64)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(least, threshold)
