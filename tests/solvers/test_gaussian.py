"""Samples against the moments of the table that they imitate."""

import pytest
import torch
from torch import Tensor

from tokswap.solvers import gaussian
from tokswap.solvers.gaussian import sample_rows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def skewed(rows: int, width: int) -> Tensor:
    """Correlated rows around a mean that is large next to their spread."""
    mix = torch.randn(width, width, generator=seeded(1))
    return torch.randn(rows, width, generator=seeded(2)) @ mix + torch.arange(width) * 10


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_moments_are_those_of_the_table(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "_ROWS", 64)  # several blocks, the last one short
    table = skewed(500, 6)
    samples = sample_rows(table, 200_000, scale=scale, generator=seeded())
    assert (samples.shape, samples.dtype) == ((200_000, 6), torch.float32)
    expected = table.double().T.cov(correction=0)
    spread = expected.diagonal().sqrt() * scale
    # Five standard errors of a mean, and about seven of a variance, over 200,000 samples.
    shift = (samples.double().mean(dim=0) - table.double().mean(dim=0)).abs()
    assert (shift < 5 * spread / 200_000**0.5).all()
    found = samples.double().T.cov()
    assert ((found - expected * scale**2).abs() < 0.02 * torch.outer(spread, spread)).all()


def test_moments_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    table = skewed(100, 5)
    mean, covariance = gaussian._moments(table)
    monkeypatch.setattr(gaussian, "_ROWS", 7)
    torch.testing.assert_close(gaussian._moments(table), (mean, covariance))
    torch.testing.assert_close(covariance, table.double().T.cov(correction=0))


def test_samples_of_a_singular_table_lie_in_its_span() -> None:
    table = skewed(3, 8)  # three points span a plane
    samples = sample_rows(table, 500, generator=seeded())
    plane = torch.linalg.qr((table[1:] - table[0]).double().T).Q
    offsets = samples.double() - table[0].double()
    outside = offsets - offsets @ plane @ plane.T
    assert outside.abs().max() < 1e-4  # float32 at values up to 100
    assert samples.std(dim=0).min() > 0.01


def test_one_row_is_repeated() -> None:
    table = skewed(1, 4)
    assert torch.equal(sample_rows(table, 3, generator=seeded()), table.expand(3, 4))


def test_scale_zero_gives_the_mean() -> None:
    table = skewed(50, 4)
    samples = sample_rows(table, 2, scale=0.0, generator=seeded())
    torch.testing.assert_close(samples, table.mean(dim=0).expand(2, 4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_seed_decides_and_the_table_is_unchanged(dtype: torch.dtype) -> None:
    table = skewed(50, 4).to(dtype)
    first, again = (sample_rows(table, 5, generator=seeded()) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, sample_rows(table, 5, generator=seeded(1)))
    assert first.dtype == torch.float32
    assert torch.equal(table, skewed(50, 4).to(dtype))


@pytest.mark.parametrize(
    ("table", "count", "scale", "message"),
    [
        (torch.ones(4), 1, 1.0, r"shape \(4,\)"),
        (torch.ones(0, 4), 1, 1.0, "S at least 1"),
        (torch.ones(2, 4, dtype=torch.int64), 1, 1.0, r"torch\.int64"),
        (torch.full((2, 4), torch.nan), 1, 1.0, "NaN or infinite"),
        (torch.ones(2, 4), -1, 1.0, "count=-1"),
        (torch.ones(2, 4), 1, -1.0, r"scale=-1\.0"),
        (torch.ones(2, 4), 1, float("inf"), "scale=inf"),
    ],
)
def test_wrong_arguments_are_refused(table: Tensor, count: int, scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_rows(table, count, scale=scale, generator=seeded())
