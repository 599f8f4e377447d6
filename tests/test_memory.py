"""Sizes as people write them, and what is free."""

import pytest

from tokswap import memory
from tokswap.memory import all_memory, default_budget, free_memory, parse_size, show_size


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("4G", 4 * 10**9),
        ("1.5GB", 1_500_000_000),
        ("512MB", 512 * 10**6),
        ("2GiB", 2 << 30),
        ("1TiB", 1 << 40),
        ("64kB", 64_000),
        ("123", 123),
        ("123B", 123),
    ],
)
def test_sizes_are_read(said: str, size: int) -> None:
    assert parse_size(said) == size


@pytest.mark.parametrize("said", ["", "GB", "-1GB", "0", "0.1", "4XB", "4iB", "four", "nan", "1e9"])
def test_what_is_no_size_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="give a size such as 4GB, 512MB or 2GiB, given"):
        parse_size(said)


@pytest.mark.parametrize("size", [1, 999, 1001, 10**6, 1_234_567, 10**9 + 1, 7_654_321_987])
def test_a_size_that_is_shown_is_no_less(size: int) -> None:
    shown = parse_size(show_size(size))
    assert size <= shown <= 1.1 * size + 1000


def test_half_the_memory_is_shared_or_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 << 20 < free_memory() <= all_memory() < 1 << 50
    monkeypatch.setattr(memory, "all_memory", lambda _: 8_000_000)
    for free, budget in ((8_000_000, 4_000_000), (5_000_000, 4_000_000), (1_000_000, 900_000)):
        monkeypatch.setattr(memory, "free_memory", lambda _, free=free: free)
        assert (default_budget(), default_budget("cpu", 4)) == (budget, budget // 4)


def test_a_container_has_less_than_the_machine(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    for name, text in (
        ("memory.max", "5000000\n"),
        ("memory.current", "3000000\n"),
        ("memory.stat", "anon 1000000\ninactive_file 2000000\n"),
    ):
        (tmp_path / name).write_text(text)
    assert (free_memory(), all_memory()) == (4_000_000, 5_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 4_000_000
