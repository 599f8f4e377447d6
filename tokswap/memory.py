"""How much memory solving may take: as the user says it, or a share of what is free."""

import os
import re
from pathlib import Path

UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
SHARE, FREE_SHARE = 0.5, 0.9
"""The parts of all memory, and of what is free, that solving takes where nobody says how much."""
UNKNOWN = 2 << 30
"""Free memory where the system does not tell."""
CGROUP = Path("/sys/fs/cgroup")


def parse_size(said: str) -> int:
    """Read a size such as ``4GB``, ``512 MB``, ``2GiB`` or a bare number of bytes.

    Raises:
        ValueError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", said.strip().upper())
    size = 0
    if found and (found[2] or not found[3]):
        factor = 1024 if found[3] else 1000
        size = int(float(found[1]) * (factor ** UNITS[found[2]] if found[2] else 1))
    if size < 1:
        raise ValueError(f"give a size such as 4GB, 512MB or 2GiB, given {said!r}")
    return size


def show_size(size: int) -> str:
    """Write a number of bytes so that :func:`parse_size` reads no less."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{-(-size * 10 // factor) / 10:g}{unit}"
    return f"{-(-size // 1000)}kB"


def default_budget(device: str = "cpu", processes: int = 1) -> int:
    """Share the memory of a device among the processes that solve there.

    Half of all memory, where so much is free: what is free changes from run to run, and how the
    work is done should not.
    """
    allowed = min(SHARE * all_memory(device), FREE_SHARE * free_memory(device))
    return max(int(allowed / max(processes, 1)), 1)


def all_memory(device: str = "cpu") -> int:
    """Tell how many bytes of memory a device has; of a container, what it may take."""
    import torch

    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    known = [value for value in (_installed(), _limit_of_container()) if value is not None]
    return min(known, default=2 * UNKNOWN)


def free_memory(device: str = "cpu") -> int:
    """Tell how many bytes are free on a device now; what a container may still take counts."""
    import torch

    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [value for value in (_available(), _left_in_container()) if value is not None]
    return max(min(free, default=UNKNOWN), 1)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    installed = _installed()  # no Linux: half of what is built in
    return None if installed is None else installed // 2


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _limit_of_container() -> int | None:
    try:
        limit = (_group() / "memory.max").read_text(encoding="ascii").strip()
        return None if limit == "max" else int(limit)
    except (OSError, ValueError):
        return None


def _group() -> Path:
    """The folder of this process's control group."""
    group = Path("/proc/self/cgroup").read_text(encoding="ascii").strip().rpartition("::")[2]
    folder = CGROUP / group.strip("/")
    return folder if (folder / "memory.max").exists() else CGROUP


def _left_in_container() -> int | None:
    """What this process's control group may still take; files that it has read can be dropped."""
    try:
        folder = _group()
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = dict(line.split() for line in lines).get("inactive_file", "0")
        return max(int(limit) - used + int(cached), 0)
    except (OSError, ValueError):
        return None
