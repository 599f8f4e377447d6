"""Peaks of memory, seen by blocks of known sizes."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokswap import peak
from tokswap.peak import peak_memory

MB = 1 << 20


def hold(size: int) -> int:
    """Hold so many bytes for a moment; every page is written to."""
    return len(bytearray(b"\1") * size)


def close(found: int | None, size: int) -> bool:
    return found is not None and size <= found + 2 * MB and found < size + 20 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the peak back")
def test_each_block_has_a_peak_of_its_own() -> None:
    with peak_memory() as first:
        assert first.bytes is None
        hold(200 * MB)
    with peak_memory() as second:
        hold(50 * MB)
    with peak_memory() as third:
        pass
    assert close(first.bytes, 200 * MB)
    assert close(second.bytes, 50 * MB)
    assert close(third.bytes, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the peak back")
def test_what_was_held_before_does_not_count() -> None:
    kept = bytearray(b"\1") * (100 * MB)
    with peak_memory() as found:
        more = bytearray(b"\1") * (60 * MB)
        del more
        hold(30 * MB)  # what was freed may be given back a little later
    assert len(kept) == 100 * MB
    assert found.bytes is not None
    assert 58 * MB <= found.bytes < 98 * MB


def small_blocks() -> list[bytearray]:
    """Hold 100 MB in blocks that the C library keeps for later when they are freed."""
    return [bytearray(b"\1") * (64 << 10) for _ in range(1600)]


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives back what it keeps for later"
)
def test_what_was_freed_before_does_not_hide_what_is_held() -> None:
    """The same work has the same peak, whether or not it was done before."""
    blocks = small_blocks()
    last = blocks[-1]  # keeps the heap from shrinking by itself
    del blocks
    with peak_memory() as found:
        small_blocks()
    assert close(found.bytes, 100 * MB)
    assert len(last) == 64 << 10


def test_work_that_fails_has_a_peak_too() -> None:
    with pytest.raises(KeyboardInterrupt), peak_memory() as found:  # noqa: PT012
        hold(100 * MB)
        raise KeyboardInterrupt
    if sys.platform == "linux":
        assert close(found.bytes, 100 * MB)


NO_RESET = """
from pathlib import Path
from tokswap import peak

peak.RESET = Path("/nowhere/clear_refs")
for size in (100 << 20, 50 << 20):
    with peak.peak_memory() as found:
        bytearray(b"1") * size
    print(found.bytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells nothing")
def test_without_a_reset_only_a_new_record_can_be_told() -> None:
    # A shell stands between: what a parent held would be the child's record.
    command = ["/bin/sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", NO_RESET]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = ran.stdout.split()
    assert close(int(first), 100 * MB)
    assert second == "None"


def test_where_nothing_can_be_told_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    monkeypatch.setitem(sys.modules, "resource", None)
    with peak_memory() as found:
        hold(MB)
    assert found.bytes is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device_its_own_memory_is_measured() -> None:
    kept = torch.zeros(30 * MB, dtype=torch.uint8, device="cuda")
    for size in (200 * MB, 50 * MB):
        with peak_memory("cuda") as found:
            torch.zeros(size, dtype=torch.uint8, device="cuda")
        assert found.bytes == size
    assert len(kept) == 30 * MB
