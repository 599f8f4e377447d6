"""Files of a model of which some are edited: the others are read where they lie."""

import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from tokswap.checkpoint.files import Files
from tokswap.names import Location


class EditedFiles:
    """A model's files with some of them replaced or left out, for as long as the object lives.

    What reads files by name sees the edited ones and needs to know nothing of it.
    """

    def __init__(
        self, files: Files, contents: Mapping[str, str], without: Collection[str] = ()
    ) -> None:
        """Write the edited files into a folder of their own, which goes with this object.

        Args:
            files: The files as they are.
            contents: The text of each edited file by file name; one that lies in a folder below
                has the folder's name before it.
            without: Names of files that are not to be seen.
        """
        self._files, self._contents = files, frozenset(contents)
        self._without = frozenset(without)
        self._folder = Path(tempfile.mkdtemp(prefix="tokswap-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for name, text in contents.items():
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())

    @property
    def location(self) -> Location:
        """See :attr:`Files.location`: where the files lie that were edited."""
        return self._files.location

    @property
    def names(self) -> frozenset[str]:
        """See :attr:`Files.names`."""
        edited = {name for name in self._contents if "/" not in name}
        return (self._files.names - self._without) | edited

    @property
    def revision(self) -> str | None:
        """See :attr:`Files.revision`."""
        return self._files.revision

    @property
    def advice(self) -> str:
        """See :attr:`Files.advice`."""
        return self._files.advice

    def called(self, name: str) -> str:
        """See :meth:`Files.called`."""
        return self._files.called(name)

    def size(self, name: str) -> int:
        """See :meth:`Files.size`."""
        edited = name in self._contents
        return self.path(name).stat().st_size if edited else self._files.size(name)

    def below(self, folder: str) -> frozenset[str]:
        """See :meth:`Files.below`."""
        return self._files.below(folder)

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`."""
        return self._folder / name if name in self._contents else self._files.path(name)

    def whole(self, name: str) -> Path | None:
        """See :meth:`Files.whole`."""
        return self._folder / name if name in self._contents else self._files.whole(name)

    def fetch(self, names: Collection[str]) -> None:
        """See :meth:`Files.fetch`."""
        self._files.fetch([name for name in names if name not in self._contents])

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """See :meth:`Files.open`."""
        return self.path(name).open("rb") if name in self._contents else self._files.open(name)
