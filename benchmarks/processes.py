"""Running a command in a process of its own: its wall time, CPU time and peak memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """What a command cost.

    Attributes:
        seconds: Wall time.
        cpu: Seconds of CPU time, user and system, of the process and those it waited for.
        peak: Peak memory of the largest process in MB, pages of files that it has mapped included.
        anonymous: Peak of what no file backs, in MB, all processes together.
    """

    seconds: float
    cpu: float
    peak: float
    anonymous: float


def measured(
    command: list[str], *, sync: bool = False, output: Path | None = None, every: float = 0.005
) -> Measured:
    """Run a command; end the program where it fails.

    Args:
        command: Program and arguments.
        sync: Whether flushing the disks counts.
        output: A file for its stdout.
        every: Seconds between two looks at its memory.
    """
    start, anonymous = time.perf_counter(), 0
    with open(output or os.devnull, "wb") as file:
        process = subprocess.Popen(command, stdout=file if output else None)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            anonymous = max(anonymous, sum(map(anonymous_memory, family(process.pid))))
            time.sleep(every)
    if status:
        sys.exit(f"{command[0]} failed")
    if sync:
        os.sync()
    return Measured(
        time.perf_counter() - start,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        anonymous / 1024,
    )


def family(pid: int) -> Iterator[int]:
    """A process and all that came of it."""
    yield pid
    try:
        lists = [
            task.joinpath("children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:  # it has ended
        return
    for child in " ".join(lists).split():
        yield from family(int(child))


def anonymous_memory(pid: int) -> int:
    """Memory of a process that no file backs, in KB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
