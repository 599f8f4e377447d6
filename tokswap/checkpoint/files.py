"""The files of a model, wherever they lie: a folder, or a repository on the Hub."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tokswap.errors import NameUnknownError
from tokswap.names import BUNDLED, Location, known_aliases, near
from tokswap.progress import note

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

    def path(self, name: str) -> Path:
        """Local path of a file, fetched first where it is remote."""


class FolderFiles:
    """Files in a local folder."""

    revision: str | None = None

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

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`."""
        return Path(self.location.target) / name


class HubFiles:
    """Files of a Hub repository, fetched one by one into the Hub's own cache."""

    def __init__(self, location: Location) -> None:
        self.location = location

    @cached_property
    def _listing(self) -> tuple[str | None, frozenset[str]]:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        target, revision = self.location.target, self.location.revision
        try:
            info = HfApi().model_info(target, revision=revision, timeout=10)
        except Exception as error:  # the Hub's errors, httpx's and the system's have no common kind
            if not _is_outage(error):
                if isinstance(error, (HfHubHTTPError, HFValidationError)):
                    raise self._explained(error) from error
                raise
        else:
            names = [sibling.rfilename for sibling in info.siblings or []]
            return info.sha, frozenset(name for name in names if "/" not in name)
        # Without the network, what was fetched before may do.
        try:
            folder = Path(snapshot_download(target, revision=revision, local_files_only=True))
        except (OSError, ValueError) as error:
            raise NameUnknownError(
                f"{self._called()} is no folder here, the Hub cannot be reached, and nothing of it "
                f"was fetched before{self._near()}; check the spelling and the network, or give "
                "a local folder"
            ) from error
        note(
            f"note: the Hub cannot be reached; {self._called()} is read as far as it was fetched "
            f"before (commit {folder.name})"
        )
        return folder.name, frozenset(path.name for path in folder.iterdir() if path.is_file())

    @property
    def revision(self) -> str | None:
        """Commit that the files are of."""
        return self._listing[0]

    @property
    def names(self) -> frozenset[str]:
        """Names of the files at the repository's top level."""
        return self._listing[1]

    def path(self, name: str) -> Path:
        """See :meth:`Files.path`.

        Raises:
            NameUnknownError: If the file cannot be fetched.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return Path(hf_hub_download(self.location.target, name, revision=self.revision))
        except Exception as error:  # as above: no common kind
            if isinstance(error, HfHubHTTPError) and not _is_outage(error):
                raise self._explained(error) from error
            if not _is_outage(error):
                raise
            raise NameUnknownError(
                f"{name} of {self._called()} cannot be fetched ({type(error).__name__}); check the "
                "network and the free disk space, then run again: what was fetched is kept"
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


def _is_outage(error: Exception) -> bool:
    """Tell whether an error says that the Hub is out of reach rather than that it said no."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return bool(status >= 500 or status in {408, 429})
    module = type(error).__module__.partition(".")[0]
    return module.startswith("http") or isinstance(error, OSError)


def open_files(location: Location) -> Files:
    """Open the files that a location holds."""
    return HubFiles(location) if location.kind == "hub" else FolderFiles(location)


def tokenizer_files(files: Files) -> Mapping[str, Path]:
    """Paths of the files that make up the tokenizer, by file name."""
    return {name: files.path(name) for name in sorted(files.names) if is_tokenizer_file(name)}


def chat_template(files: Files) -> str | None:
    """Read a model's chat template, from its own file or from tokenizer_config.json.

    Returns:
        The template; None where there is none, or a list of several.
    """
    if "chat_template.jinja" in files.names:
        return files.path("chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name in files.names:
            said = json.loads(files.path(name).read_text(encoding="utf-8")).get("chat_template")
            if isinstance(said, str):
                return said
    return None
