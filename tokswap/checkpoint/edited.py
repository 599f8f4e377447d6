"""Files of a model of which some are edited: the others are read where they lie."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokswap.checkpoint.files import Files
from tokswap.names import Location


class EditedFiles:
    """A model's files with some of them replaced, for as long as the object lives.

    What reads files by name sees the edited ones and needs to know nothing of it.
    """

    def __init__(self, files: Files, contents: Mapping[str, str]) -> None:
        """Write the edited files into a folder of their own, which goes with this object.

        Args:
            files: The files as they are.
            contents: The text of each edited file by file name.
        """
        self._files, self._contents = files, frozenset(contents)
        self._folder = Path(tempfile.mkdtemp(prefix="tokswap-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for name, text in contents.items():
            (self._folder / name).write_bytes(text.encode())

    @property
    def location(self) -> Location:
        """See :attr:`Files.location`: where the files lie that were edited."""
        return self._files.location

    @property
    def names(self) -> frozenset[str]:
        """See :attr:`Files.names`."""
        return self._files.names | self._contents

    @property
    def revision(self) -> str | None:
        """See :attr:`Files.revision`."""
        return self._files.revision

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`."""
        return self._folder / name if name in self._contents else self._files.path(name)

    def __getattr__(self, name: str) -> Any:
        """Pass on whatever else the files can do."""
        return getattr(self._files, name)
