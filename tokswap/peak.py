"""The most memory that a piece of work holds, measured while it is done.

Linux keeps the most that a process ever held and lets it be set back; elsewhere a piece of work
shows only where it goes beyond all that was held before it. What the process has freed and its C
library keeps for later is given back first (glibc), or it would count as held before, and what is
done after other work would seem to need less.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """What a piece of work held.

    Attributes:
        bytes: The most that was held beyond what was held before, in main memory or in that of the
            device; None while the work is done, and where nothing can be told.
    """

    bytes: int | None = None


@contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Peak]:
    """Measure the memory that the work inside holds at its peak.

    It is the whole process's, so nothing else should be done meanwhile, nor one such block stand in
    another.

    Args:
        device: Where the work is done, in the words of torch: on a CUDA device its memory is
            measured instead.

    Yields:
        The peak, known when the block is left, by an exception too.
    """
    peak = Peak()
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            peak.bytes = max(0, torch.cuda.max_memory_allocated(device) - before)
    elif _reset():
        before = _status("VmRSS")
        try:
            yield peak
        finally:
            peak.bytes = max(0, _status("VmHWM") - before)
    else:
        most = _most_ever()
        try:
            yield peak
        finally:
            grown = _most_ever() - most
            peak.bytes = grown if grown > 0 else None


def _reset() -> bool:
    """Let the most that was held be what is held now; False where that cannot be done."""
    _give_back()
    try:
        RESET.write_text("5", encoding="ascii")
        return _status("VmHWM") > 0
    except (OSError, ValueError):
        return False


def _give_back() -> None:
    """Let the system have what is not used any more, where the C library can."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which musl does not have
    if trim is not None:
        trim(0)


def _status(key: str) -> int:
    """Read an amount of memory that Linux tells of this process, in bytes.

    Raises:
        ValueError: If it does not tell it.
    """
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    raise ValueError(f"{STATUS} does not say {key}")


def _most_ever() -> int:
    """Tell the most that the process ever held, in bytes; 0 where nobody knows."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
