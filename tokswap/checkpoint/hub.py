"""The files of a repository on the Hub: listed, fetched whole, or read in part.

Everything goes through the Hub's own client: its cache, its file system for ranges of bytes, and
its way of trying again. What it raises becomes one sentence here.
"""

import errno
import glob
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from tokswap.errors import NameUnknownError
from tokswap.names import BUNDLED, Location, known_aliases, near
from tokswap.progress import note, shown

TIMEOUT = 10
"""Seconds to wait for the Hub's answer to the first question."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
"""Errors of the disk that the cache is on, not of the network."""


@dataclass(frozen=True)
class Listing:
    """What lies in a repository.

    Attributes:
        revision: The commit that was listed; every file is read of this one.
        sizes: Bytes of each file by its path, None where the Hub does not say.
        offline: Why only what was fetched before can be had, or None where the Hub answers.
    """

    revision: str | None
    sizes: Mapping[str, int | None]
    offline: str | None = None


class HubFiles:
    """Files of a Hub repository; those that are fetched whole lie in the Hub's own cache."""

    def __init__(self, location: Location) -> None:
        self.location = location

    @cached_property
    def _listing(self) -> Listing:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        target, revision = self.location.target, self.location.revision
        try:
            info = HfApi().model_info(
                target, revision=revision, timeout=TIMEOUT, files_metadata=True
            )
        except Exception as error:  # the Hub's errors, httpx's and the system's have no common kind
            if not _is_outage(error):
                if isinstance(error, (HfHubHTTPError, HFValidationError)):
                    raise self._explained(error) from error
                raise
            return self._cached(error)
        with suppress(Exception):  # only so that a run without the network knows the commit
            HfApi().resolve_revision(target, revision=revision)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
        return Listing(info.sha, sizes)

    def _cached(self, error: Exception) -> Listing:
        """List what was fetched before.

        Raises:
            NameUnknownError: If nothing was.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import IncompleteSnapshotError

        state = _state(error)
        try:
            folder = Path(
                snapshot_download(
                    self.location.target, revision=self.location.revision, local_files_only=True
                )
            )
        except IncompleteSnapshotError as incomplete:  # this program never fetches all there is
            folder = Path(incomplete.snapshot_path)
        except (OSError, ValueError) as missing:
            raise NameUnknownError(
                f"{self._called()} is no folder here, the Hub {state}, and nothing of it "
                f"was fetched before{self._near()}; check the spelling and the network, or give "
                "a local folder"
            ) from missing
        note(
            f"note: the Hub {state}; {self._called()} is read as far as it was fetched "
            f"before (commit {folder.name})"
        )
        files = [path for path in folder.rglob("*") if path.is_file()]
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        return Listing(folder.name, sizes, offline=state)

    @property
    def revision(self) -> str | None:
        """Commit that the files are of."""
        return self._listing.revision

    @property
    def names(self) -> frozenset[str]:
        """Names of the files at the repository's top level."""
        return frozenset(name for name in self._listing.sizes if "/" not in name)

    def below(self, folder: str) -> frozenset[str]:
        """See :meth:`Files.below`."""
        inside = (name for name in self._listing.sizes if name.startswith(f"{folder}/"))
        return frozenset(name for name in inside if name.count("/") == folder.count("/") + 1)

    @property
    def advice(self) -> str:
        """See :meth:`Files.advice`."""
        if self._listing.offline is None:
            return "fetch it again"
        return f"the Hub {self._listing.offline} and it was not fetched before: connect, run again"

    def called(self, name: str) -> str:
        """See :meth:`Files.called`."""
        return f"{name} of {self._called()}"

    def size(self, name: str) -> int:
        """See :meth:`Files.size`."""
        said = self._listing.sizes.get(name)
        return self.path(name).stat().st_size if said is None else said

    def whole(self, name: str) -> Path | None:
        """See :meth:`Files.whole`."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.location.target, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`.

        Raises:
            NameUnknownError: If the file cannot be fetched.
        """
        from huggingface_hub import hf_hub_download

        with self._refusals(name), _bars():
            return Path(hf_hub_download(self.location.target, name, revision=self.revision))

    def fetch(self, names: Collection[str]) -> None:
        """See :meth:`Files.fetch`.

        Raises:
            NameUnknownError: If a file cannot be fetched.
        """
        from huggingface_hub import snapshot_download

        lacking = [name for name in sorted(names) if self.whole(name) is None]
        if not lacking:
            return
        patterns = [glob.escape(name) for name in lacking]
        with self._refusals(", ".join(lacking[:3]) + " …" * (len(lacking) > 3)), _bars():
            snapshot_download(self.location.target, revision=self.revision, allow_patterns=patterns)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """See :meth:`Files.open`.

        Raises:
            NameUnknownError: If the file cannot be read.
        """
        from huggingface_hub import HfFileSystem

        if whole := self.whole(name):
            with whole.open("rb") as file:
                yield file
            return
        # Each read is one request, which the Hub's client repeats where it is cut off.
        place = f"{self.location.target}@{self.revision}/{name}"
        with (
            self._refusals(name),
            HfFileSystem().open(place, "rb", cache_type="none", block_size=1 << 20) as remote,
        ):
            yield remote

    @contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        """Turn what the Hub's client raises into one sentence.

        Raises:
            NameUnknownError: If it raises anything.
        """
        from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

        try:
            yield
        except Exception as error:  # as above: no common kind
            if isinstance(error, RemoteEntryNotFoundError):
                raise NameUnknownError(
                    f"{self._called()} has no {name} any more; run again"
                ) from error
            if isinstance(error, HfHubHTTPError) and not _is_outage(error):
                raise self._explained(error) from error
            if not _is_outage(error):
                raise
            if isinstance(error, OSError) and error.errno in DISK:
                raise NameUnknownError(
                    f"{name} of {self._called()} cannot be kept here ({error.strerror}); free some "
                    "space, or set HF_HOME to a folder on another disk"
                ) from error
            state = self._listing.offline or _state(error)
            raise NameUnknownError(
                f"{name} of {self._called()} cannot be fetched: the Hub {state} "
                f"({type(error).__name__}); check the network, then run "
                "again: every file that was fetched whole is kept"
            ) from error

    def _called(self) -> str:
        location = self.location
        return repr(location.name) + (
            "" if location.name.startswith(location.target) else f" ({location.target})"
        )

    def _near(self) -> str:
        if self.location.name in known_aliases():
            return ""
        known = [*known_aliases(), *(target for target, _ in known_aliases().values()), *BUNDLED]
        return near(self.location.name, [name for name in known if name != self.location.name])

    def _explained(self, error: Exception) -> NameUnknownError:
        from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

        page = f"https://huggingface.co/{self.location.target}"
        if isinstance(error, GatedRepoError):
            return NameUnknownError(
                f"{self._called()} is gated; accept its terms at {page}, then log in with "
                "`hf auth login`"
            )
        if isinstance(error, RevisionNotFoundError):
            return NameUnknownError(
                f"{self._called()} has no revision {self.location.revision!r}; see {page}/tree/main"
            )
        return NameUnknownError(
            f"{self._called()} is no folder here and the Hub has no such model, or it is private"
            f"{self._near()}; check the spelling, or log in with `hf auth login`"
        )


def _status(error: BaseException | None) -> int | None:
    """Status of the answer that an error, or what caused it, is about."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def _is_outage(error: Exception) -> bool:
    """Tell whether an error says that the Hub is out of reach rather than that it said no."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return bool(status >= 500 or status in {408, 429})
    module = type(error).__module__.partition(".")[0]
    return module.startswith("http") or isinstance(error, OSError)


def _state(error: Exception) -> str:
    """Say what is the matter with the Hub, behind `the Hub`."""
    status = _status(error)
    if status == 429:
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        after = response.headers.get("Retry-After", "") if response is not None else ""
        wait = f"; wait {after} s" if after.isdigit() else "; wait some minutes"
        return f"answers that there were too many requests (429{wait}, or `hf auth login`)"
    if status is not None and (status >= 500 or status == 408):
        return f"is out of order ({status})"
    return "cannot be reached"


@contextmanager
def _bars() -> Iterator[None]:
    """Hide the bars of the Hub's client where no progress is shown."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
