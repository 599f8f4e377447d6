"""Finished blocks beside the output folder, from which a run that was stopped can go on.

They lie in ``.NAME.blocks``, each in a file of its own, and go when the output is there. One
process at a time holds the folder; a second one solves without keeping.
"""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tokswap.errors import OutputError
from tokswap.progress import note

try:
    import fcntl
except ImportError:  # Windows: nobody is kept from the folder there
    fcntl = None  # type: ignore[assignment]

WORTH = 2.0
"""Seconds of solving from which on blocks are kept: what took less is solved again as fast."""
SUFFIX = ".safetensors"
OURS = re.compile(r"[0-9a-f]{16}-\d{6}\.safetensors")
OURS_OR_PARTIAL = re.compile(r"[0-9a-f]{16}-\d{6}\.(safetensors|[0-9a-f]{8}\.partial)")


class KeptBlocks:
    """Keeps the blocks of a run, and finds those of an earlier one to the same target.

    Attributes:
        folder: Where they lie.
    """

    def __init__(self, target: Path, *, resume: bool) -> None:
        resolved = target.resolve()
        self.folder = resolved.parent / f".{resolved.name}.blocks"
        self._resume = resume
        self._asked: set[str] = set()
        self._held: int | None = None
        self._ready = self._given_up = False
        self._start = time.monotonic()

    @contextmanager
    def held(self) -> Iterator["KeptBlocks"]:
        """Keep blocks in the body; where it fails, tell how to go on.

        Yields:
            This.

        Raises:
            OutputError: If an earlier run is to be resumed that is still at work.
        """
        there = self._files()
        if there and not self._hold():
            if self._resume:
                raise OutputError(
                    f"{self.folder} is held by another run to the same output, which is still at "
                    "work; wait for it or end it, or choose another output"
                )
            self._give_up(f"{self.folder} is held by another run to the same output")
        elif there and not self._resume:
            note(
                f"note: {self.folder} holds {len(there)} finished blocks of an earlier run, and "
                "this one starts over; --resume would go on from them"
            )
        elif self._resume and not there:
            note(f"note: there is nothing to resume in {self.folder}; the run starts over")
        try:
            yield self
        except BaseException:
            if (self._ready or self._resume) and (kept := self._files()):
                note(
                    f"{len(kept)} finished blocks are kept in {self.folder}; the same command with "
                    "--resume goes on from them"
                )
            raise
        finally:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def find(self, key: str, blocks: int) -> dict[int, bytes]:
        """See :meth:`tokswap.blocks.Keep.find`."""
        self._start = time.monotonic()
        self._asked.add(key[:16])
        if not self._resume or self._given_up:
            return {}
        found = {}
        for number in range(blocks):
            with suppress(OSError):
                found[number] = self._path(key, number).read_bytes()
        strange = [path for path in self._files() if path.name[:16] not in self._asked]
        if strange and not found:
            note(
                f"note: {len(strange)} blocks in {self.folder} answer another question (other "
                "models, settings, kind of device or version) and are of no use to this one"
            )
        return found

    def damaged(self, number: int) -> None:
        """See :meth:`tokswap.blocks.Keep.damaged`."""
        note(f"note: block {number} in {self.folder} is damaged and is solved again")

    def put(self, key: str, number: int, data: bytes) -> None:
        """See :meth:`tokswap.blocks.Keep.put`."""
        if self._given_up or time.monotonic() - self._start < WORTH:
            return
        try:
            self._make_ready()
            if self._given_up:
                return
            path = self._path(key, number)
            partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            self._give_up(f"{self.folder} cannot be written ({error.strerror})")

    def clear(self) -> None:
        """See :meth:`tokswap.blocks.Keep.clear`."""
        if not self._given_up and self.folder.is_dir() and self._hold():
            with suppress(OSError):  # somebody keeps something of his own there
                self._empty()
                self.folder.rmdir()

    def _make_ready(self) -> None:
        """Make the folder, and hold it; an earlier run's blocks go only now that there are new."""
        if self._ready:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._hold():
            self._give_up(f"{self.folder} is held by another run to the same output")
            return
        if not self._resume:
            self._empty()
        self._ready = True

    def _give_up(self, reason: str) -> None:
        self._given_up = True
        note(f"note: {reason}, so this run keeps no blocks and cannot be resumed")

    def _path(self, key: str, number: int) -> Path:
        return self.folder / f"{key[:16]}-{number:06}{SUFFIX}"

    def _files(self, pattern: re.Pattern[str] = OURS) -> list[Path]:
        return sorted(path for path in self.folder.glob("*") if pattern.fullmatch(path.name))

    def _empty(self) -> None:
        for path in self._files(OURS_OR_PARTIAL):
            path.unlink()

    def _hold(self) -> bool:
        """Hold the folder until the process ends; True as well where locks are not to be had."""
        if fcntl is None or self._held is not None:
            return True
        place = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
            return False
        except OSError:  # a network's disk without locks
            os.close(place)
            return True
        self._held = place
        return True
