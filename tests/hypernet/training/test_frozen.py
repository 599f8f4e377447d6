"""The base that is trained through: with its own rows it is itself, with others it is another."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.hypernet.training.conftest import GAPS, KINDS
from tokswap.hypernet.training.frozen import FrozenBase

Frozen = Callable[[str], FrozenBase]
Tables = tuple[Tensor, Tensor | None, Tensor | None]


def own_tables(base: FrozenBase) -> Tables:
    bias = base.model.get_parameter(base.names["bias"]) if "bias" in base.names else None
    rows = torch.arange(base.rows)
    return *base.own(rows), None if bias is None else bias[: base.rows]


def some_ids(base: FrozenBase, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    own = torch.tensor(sorted(base.checkpoint.vocabulary.ids.values()))
    if base.first is not None:
        own = own[own != base.first - 1]  # which would count as no text
    return own[torch.randint(len(own), shape, generator=draw)]


def plain(base: FrozenBase, ids: Tensor) -> Tensor:
    """What the model itself says."""
    said = {"attention_mask": torch.ones_like(ids)} if base.mask is not None else {}
    with torch.no_grad():
        return base.model(input_ids=ids, **said).logits[..., : base.rows]


def run(base: FrozenBase, ids: Tensor, tables: Tables) -> Tensor:
    return base.logits(ids, *tables, torch.ones_like(ids, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_own_rows_it_is_itself(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 2, 13)
    with torch.no_grad():
        found = run(base, ids, own_tables(base))
    assert torch.equal(found, plain(base, ids))
    assert base.tied == (kind in {"tied", "positions", "capped", "states", *GAPS})
    assert ("bias" in base.names) == (kind in {"head bias", *GAPS})
    if base.mask is None:
        assert torch.equal(base.plain_logits(ids)[..., : base.rows], plain(base, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_rows_give_permuted_logits(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 2, 13)
    order = torch.randperm(base.rows, generator=torch.Generator().manual_seed(1))
    tables = tuple(None if table is None else table[order] for table in own_tables(base))
    with torch.no_grad():
        found = run(base, torch.argsort(order)[ids], tables)  # type: ignore[arg-type]
    assert torch.allclose(found, plain(base, ids)[..., order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_any_size(kind: str, frozen: Frozen) -> None:
    """A few of its rows give the logits of these, wherever they stand, and all get gradients."""
    base = frozen(kind)
    kept = some_ids(base, 100).unique()[:12]
    places = torch.arange(len(kept)).roll(5)[None]
    tables = tuple(
        None if t is None else t[kept].clone().requires_grad_() for t in own_tables(base)
    )
    found = run(base, places, tables)  # type: ignore[arg-type]
    assert found.shape == (1, len(kept), len(kept))
    assert torch.allclose(found, plain(base, kept[places])[..., kept], rtol=1e-4, atol=1e-5)
    found.logsumexp(dim=2).sum().backward()
    for table in tables:
        assert table is None or (table.grad is not None and table.grad.abs().sum(-1).all())
    assert all(parameter.grad is None for parameter in base.model.parameters())


@pytest.mark.parametrize("kind", ["head bias", *GAPS])
def test_without_a_bias_there_is_none(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 1, 5)
    inputs, outputs, bias = own_tables(base)
    with torch.no_grad():
        found = run(base, ids, (inputs, outputs, None))
    assert bias is not None
    assert torch.allclose(found + bias, plain(base, ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GAPS)
def test_gaps_are_filled_without_looking_behind_the_text(kind: str, frozen: Frozen) -> None:
    base = frozen(kind)
    ids = some_ids(base, 1, 9)
    there = torch.arange(9)[None] < 6
    with torch.no_grad():
        short = run(base, ids[:, :6], own_tables(base))
        long = base.logits(ids, *own_tables(base), there)
    assert torch.allclose(long[:, :6], short, rtol=1e-4, atol=1e-5)
