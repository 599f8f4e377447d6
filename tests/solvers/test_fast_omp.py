"""The fast pursuit: as good as the exact one, and right where the answer is known."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import Ridge
from torch import Tensor

from solvers.tables import structured
from tokswap.solvers import omp
from tokswap.solvers.omp import LookKind, Pursuit, orthogonal_matching_pursuit
from tokswap.solvers.shortlist import LISTED

LOOKS = ["product", "gram"]
MODELS = Path(__file__).parents[3] / "shared" / "models"
Mode = Literal["exact", "fast"]
with_each_look = pytest.mark.parametrize("look", LOOKS)


def solve(
    look: str, targets: Tensor, atoms: Tensor, k: int, **settings: bool
) -> tuple[Tensor, Tensor]:
    return Pursuit(atoms, k, mode="fast", look=look, **settings).solve(targets)


def errors(targets: Tensor, atoms: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
    """Relative errors, (M,)."""
    indices, weights = found
    fitted = torch.einsum("mk,mke->me", weights, atoms[indices.clamp_min(0)])
    return (targets - fitted).norm(dim=1) / targets.norm(dim=1)


@with_each_look
@pytest.mark.parametrize("normalize", [True, False])
def test_the_error_is_within_one_percent_of_the_exact_one(look: LookKind, normalize: bool) -> None:
    table = structured(6300, 256)
    atoms, targets = table[:6000], table[6000:]
    exact = Pursuit(atoms, 32, mode="exact", normalize=normalize).solve(targets)
    fast = solve(look, targets, atoms, 32, normalize=normalize)
    assert not torch.equal(fast[0], exact[0])  # else the lists were not put to the test
    ratio = errors(targets, atoms, fast).mean() / errors(targets, atoms, exact).mean()
    assert ratio < 1.01
    assert (fast[0] >= 0).all()
    assert all(len(set(row)) == 32 for row in fast[0].tolist())


@with_each_look
@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "lm_head.weight"])
def test_real_embeddings(look: LookKind, tensor: str) -> None:
    path = MODELS / "donor" / "model.safetensors"
    if not path.exists():
        pytest.skip("the small models are not there")
    table = load_file(path)[tensor].float()
    table = table - table.mean(dim=0)
    held = torch.arange(len(table)) % 16 == 0
    atoms, targets = table[~held], table[held]
    exact = errors(targets, atoms, Pursuit(atoms, 64, mode="exact").solve(targets)).mean()
    fast = errors(targets, atoms, solve(look, targets, atoms, 64)).mean()
    assert fast < 1.01 * exact


def test_the_low_precision_look_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    table = structured(3500, 128)
    atoms, targets = table[:3000], table[3000:]
    exact = errors(targets, atoms, Pursuit(atoms, 32, mode="exact").solve(targets)).mean()
    monkeypatch.setattr(omp, "_look_type", lambda _: torch.bfloat16)
    found = solve("product", targets, atoms, 32)
    assert found[1].dtype == torch.float32
    assert errors(targets, atoms, found).mean() < 1.01 * exact


def test_fast_in_double_precision() -> None:
    table = structured(700, 32).double()
    found = orthogonal_matching_pursuit(table[:200], table[200:], 5, mode="fast")
    exact = orthogonal_matching_pursuit(table[:200], table[200:], 5, mode="exact")
    assert found[1].dtype == torch.float64
    ratio = errors(table[:200], table[200:], found).mean()
    assert ratio < 1.02 * errors(table[:200], table[200:], exact).mean()


@pytest.mark.parametrize(
    ("atoms", "k", "expected", "pairs", "look"),
    [
        (1600, 8, 100, 1600**2, "gram"),
        (1601, 8, 100, 1 << 30, "product"),  # too many atoms for the targets
        (1600, 9, 100, 1 << 30, "product"),  # too many steps for the width
        (1600, 8, 100, 1600**2 - 1, "product"),
    ],
)
def test_the_look_is_chosen_by_the_sizes(
    atoms: int, k: int, expected: int, pairs: int, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bfloat16 is no faster: a processor with a matrix unit for it has `product` always."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    table = structured(atoms, 32)
    for memory in (None, 1 << 28):
        chosen = Pursuit(table, k, mode="fast", expected=expected, pairs=pairs, memory=memory)
        assert chosen.look == look


def test_large_problems_are_fast_by_default() -> None:
    assert Pursuit(structured(8192, 16), 4).mode == "fast"
    assert Pursuit(structured(8191, 16), 4).mode == "exact"
    assert Pursuit(structured(8192, 16).double(), 4).mode == "exact"


@with_each_look
def test_planted_combinations_are_recovered(look: LookKind) -> None:
    atoms = torch.randn(4000, 600, generator=torch.Generator().manual_seed(0))
    planted = torch.stack([torch.arange(40), torch.arange(40) * 17 + 900, 3999 - torch.arange(40)])
    targets = torch.einsum("a,ame->me", torch.tensor([2.0, -1.5, 1.0]), atoms[planted])
    indices, weights = solve(look, targets, atoms, 6)
    for row, found in enumerate(indices.tolist()):
        assert set(found) == {*planted[:, row].tolist(), -1}
        assert found[3:] == [-1, -1, -1]
    ordered = weights.sort(dim=1).values
    expected = torch.tensor([-1.5, 0, 0, 0, 1, 2]).expand(40, -1)
    torch.testing.assert_close(ordered, expected, atol=1e-4, rtol=0)


@with_each_look
def test_a_list_full_of_one_atom_does_not_end_the_search(look: LookKind) -> None:
    line, second, third = torch.linalg.qr(torch.randn(32, 3, generator=torch.Generator())).Q.T
    copies = line * torch.linspace(1, 2, 4 * LISTED)[:, None]
    atoms = torch.cat([copies, -copies, second[None], third[None]])
    targets = torch.stack([5 * line + 0.5 * second + 0.02 * third, 3 * line])
    indices, weights = solve(look, targets, atoms, 4)
    assert [len(set(row) - {-1}) for row in indices.tolist()] == [3, 1]
    assert errors(targets, atoms, (indices, weights)).max() < 1e-4
    assert weights.abs().max() < 6


@with_each_look
def test_zeros_and_targets_that_nothing_can_help(look: LookKind) -> None:
    turn = torch.linalg.qr(torch.randn(200, 200, generator=torch.Generator())).Q
    atoms = torch.cat([torch.zeros(3, 200), turn[:150], torch.zeros(2, 200)])
    targets = torch.cat([torch.zeros(2, 200), turn[150:152], turn[40:42]])
    indices, weights = solve(look, targets, atoms, 5)
    assert (indices[:4] == -1).all()
    assert (weights[:4] == 0).all()
    assert indices[4:].tolist() == [[43, -1, -1, -1, -1], [44, -1, -1, -1, -1]]


@with_each_look
def test_k_above_the_rank_stops_at_the_projection(look: LookKind) -> None:
    draw = torch.Generator().manual_seed(3)
    span = torch.randn(6, 40, generator=draw)
    atoms = torch.randn(500, 6, generator=draw) @ span
    targets = torch.randn(20, 40, generator=draw)
    indices, weights = solve(look, targets, atoms, 30)
    assert (indices[:, 6:] == -1).all()
    basis = torch.linalg.qr(span.T).Q
    fitted = torch.einsum("mk,mke->me", weights, atoms[indices.clamp_min(0)])
    torch.testing.assert_close(fitted, targets @ basis @ basis.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_ridge_shrinks_the_weights_of_what_was_taken(mode: Mode) -> None:
    table = structured(900, 48).double() if mode == "exact" else structured(900, 48)
    atoms, targets = table[:880], table[880:]
    plain = orthogonal_matching_pursuit(targets, atoms, 12, mode=mode)
    shrunk = orthogonal_matching_pursuit(targets, atoms, 12, mode=mode, ridge=0.05)
    assert torch.equal(plain[0], shrunk[0])
    for row, target in enumerate(targets):
        chosen = atoms[plain[0][row]]
        lengths = chosen.norm(dim=1)
        model = Ridge(alpha=0.05, fit_intercept=False)
        model.fit((chosen / lengths[:, None]).T.numpy(), (target / target.norm()).numpy())
        expected = torch.from_numpy(model.coef_) * target.norm() / lengths
        torch.testing.assert_close(shrunk[1][row], expected, rtol=1e-3, atol=1e-5)


def test_ridge_gives_unused_slots_no_weight() -> None:
    atoms = torch.eye(4)[:2]
    found = orthogonal_matching_pursuit(torch.tensor([[3.0, 0, 0, 0]]), atoms, 2, ridge=0.5)
    assert found[0].tolist() == [[0, -1]]
    torch.testing.assert_close(found[1], torch.tensor([[2.0, 0.0]]))
