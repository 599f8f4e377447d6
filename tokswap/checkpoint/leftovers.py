"""What a run that was killed leaves beside its target, and how the next one clears it away.

A run writes into a folder beside the target and holds a lock on it, which ends with the process
however it ends. A folder that nobody holds is a leftover.
"""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers are named there, never removed
    fcntl = None  # type: ignore[assignment]


def leftovers(target: Path) -> list[Path]:
    """Find the folders beside a target that runs to it have made and not cleared away."""
    target = target.resolve()
    ours = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.(partial|old)")
    found = target.parent.glob(f".{glob.escape(target.name)}.*")
    return sorted(path for path in found if ours.fullmatch(path.name) and path.is_dir())


def clear_leftovers(target: Path, *, known: str) -> list[str]:
    """Remove what killed runs have left, and put back what one of them was replacing.

    Nothing is touched while another run to the same target is at work, or where that cannot be
    told.

    Args:
        target: The folder that is to be written.
        known: Name of a file by which an output of this program is known.

    Returns:
        A line for each folder: what it is and what was done.
    """
    found, target = leftovers(target), target.resolve()
    if held := [path for path in found if _is_held(path)]:
        return [
            f"{held[0]} is being written by another run to {target}, or is a leftover that cannot "
            "be told from one; if there is none, remove it"
        ]
    lines = []
    for path in found:
        if path.suffix == ".old" and not target.exists() and (path / known).is_file():
            path.rename(target)
            lines.append(f"{target} was put back: an earlier run was killed while it replaced it")
        elif path.suffix == ".old" and not (target / known).is_file():
            lines.append(f"{path} was left by an earlier run that was killed; it is kept, look in")
        else:
            shutil.rmtree(path, ignore_errors=True)
            done = "cannot be removed" if path.exists() else "was removed"
            lines.append(f"{path}, left by an earlier run that was killed, {done}")
    return lines


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, so that no other takes it for a leftover."""
    place = _lock(folder)
    try:
        yield
    finally:
        if place is not None:
            os.close(place)


def _is_held(folder: Path) -> bool:
    place = _lock(folder)
    if place is not None:
        os.close(place)
    return place is None


def _lock(folder: Path) -> int | None:
    """Open and lock a folder; None where another process holds it, or locks are not to be had."""
    if fcntl is None:
        return None
    with suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(place)
        else:
            return place
    return None
