"""The files of a model, wherever they lie: a folder, or a repository on the Hub."""

import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from tokswap.checkpoint.hub import HubFiles
from tokswap.errors import NameUnknownError
from tokswap.names import Location

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "encoder.json",
        "vocab.bpe",
        "bpe.codes",
        "dict.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.model",
        "sentencepiece.bpe.model",
        "spm.model",
        "spm_char.model",
        "source.spm",
        "target.spm",
        "vocab-src.json",
        "vocab-tgt.json",
        "target_vocab.json",
        "entity_vocab.json",
        "word_shape.json",
        "word_pronunciation.json",
        "byte_maps.json",
        "emoji.json",
        "normalizer.json",
        "prophetnet.tokenizer",
    }
)
"""Names of the files that make up a tokenizer; they travel together."""

TOKENIZER_PATTERN = re.compile(
    r"tokenizer\.model\.\w+|.*tekken.*\.json|.+\.tiktoken|tiktoken\.model"
)
"""Names of such files that carry a version or a model's name."""


OTHERS = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "entity_vocab.json",
        "word_shape.json",
        "word_pronunciation.json",
        "byte_maps.json",
        "emoji.json",
        "normalizer.json",
    }
)
"""Files of a tokenizer that do not hold the vocabulary of tokenizer.json in a form of their own."""


def repeats_vocabulary(name: str) -> bool:
    """Tell whether a file says what tokenizer.json says in another form, as vocab.json does."""
    return is_tokenizer_file(name) and name not in OTHERS


def is_tokenizer_file(name: str) -> bool:
    """Tell whether a file is part of a tokenizer, by its name."""
    return name in TOKENIZER_FILES or TOKENIZER_PATTERN.fullmatch(name) is not None


class Files(Protocol):
    """The files at the top of a model's folder."""

    @property
    def location(self) -> Location:
        """Where they lie."""

    @property
    def names(self) -> frozenset[str]:
        """Names of all files."""

    @property
    def revision(self) -> str | None:
        """Commit that the files are of, on the Hub."""

    @property
    def advice(self) -> str:
        """What to do about a file that should be among them."""

    def called(self, name: str) -> str:
        """What to call a file in a message."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def below(self, folder: str) -> frozenset[str]:
        """Names of the files in a folder below, each with the folder's: ``folder/file``."""

    def path(self, name: str) -> Path:
        """Local path of a file, fetched first where it is remote."""

    def whole(self, name: str) -> Path | None:
        """Local path of a file where it is here already, else None."""

    def fetch(self, names: Collection[str]) -> None:
        """Fetch files whole that are not here; those that are done stay if it is interrupted."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file to read parts of it; of a remote one, what is read is fetched."""


class FolderFiles:
    """Files in a local folder."""

    revision: str | None = None
    advice = "fetch it again"

    def __init__(self, location: Location) -> None:
        self.location = location

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the files in the folder itself, not below it.

        Raises:
            NameUnknownError: If the folder cannot be read.
        """
        folder = Path(self.location.target)
        try:
            return frozenset(path.name for path in folder.iterdir() if path.is_file())
        except OSError as error:
            raise NameUnknownError(
                f"the folder {self.location.name!r} cannot be read ({error.strerror}); check its "
                "permissions"
            ) from error

    def below(self, folder: str) -> frozenset[str]:
        """See :meth:`Files.below`."""
        try:
            found = [path.name for path in self.path(folder).iterdir() if path.is_file()]
        except OSError:  # there is none
            return frozenset()
        return frozenset(f"{folder}/{name}" for name in found)

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`."""
        return Path(self.location.target) / name

    whole = path

    def called(self, name: str) -> str:
        """See :meth:`Files.called`."""
        return str(self.path(name))

    def size(self, name: str) -> int:
        """See :meth:`Files.size`."""
        return self.path(name).stat().st_size

    def fetch(self, names: Collection[str]) -> None:
        """See :meth:`Files.fetch`; they are here."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """See :meth:`Files.open`."""
        return self.path(name).open("rb")


def open_files(location: Location) -> Files:
    """Open the files that a location holds."""
    return HubFiles(location) if location.kind == "hub" else FolderFiles(location)


def tokenizer_files(files: Files) -> Mapping[str, Path]:
    """Paths of the files that make up the tokenizer, by file name."""
    return {name: files.path(name) for name in sorted(files.names) if is_tokenizer_file(name)}
