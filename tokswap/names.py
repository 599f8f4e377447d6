"""What ``--base llama`` means: aliases, bundled models, folders and Hub ids with a revision."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from tokswap.errors import NameUnknownError

ALIASES = {
    "llama": "meta-llama/Llama-3.2-1B",
    "mistral": "mistralai/Mistral-Nemo-Base-2407",
}
"""Short names that come with the program: the pair of the OMP paper (arXiv 2506.06607)."""

BUNDLED = {
    "tiny-llama": "Llama architecture, byte-level BPE, digits in groups of three",
    "tiny-mistral": "Mistral architecture, SentencePiece-style BPE, single digits",
}
"""Models that lie inside the package."""

BUNDLED_FOLDER = Path(__file__).parent / "bundled"

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Location:
    """Where a model or tokenizer is to be had.

    Attributes:
        name: As the user gave it.
        kind: ``bundled``, ``folder`` or ``hub``.
        target: The folder's path, or the Hub id.
        revision: Branch, tag or commit of a Hub id; None for its main branch.
    """

    name: str
    kind: Literal["bundled", "folder", "hub"]
    target: str
    revision: str | None = None

    @property
    def short(self) -> str:
        """Name fit for a part of a folder's name."""
        last = Path(self.name.partition("@")[0] if self.kind == "hub" else self.name).name
        last = last or Path(self.target).resolve().name
        return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"


def aliases_file() -> Path:
    """Path of the user's aliases: ``$TOKSWAP_ALIASES``, or tokswap/aliases.yaml in the config."""
    if said := os.environ.get("TOKSWAP_ALIASES"):
        return Path(said).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "tokswap" / "aliases.yaml"


def user_aliases() -> dict[str, str]:
    """Read the user's own aliases; there are none where the file is missing.

    Raises:
        NameUnknownError: If the file is not a YAML mapping from names to names.
    """
    path = aliases_file()
    if not path.is_file():
        return {}
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise NameUnknownError(f"{path} is not valid YAML ({reason}); mend or remove it") from error
    if not isinstance(said, dict) or not all(isinstance(v, str) for v in [*said, *said.values()]):
        raise NameUnknownError(f"{path} must map names to names, like `llama: org/model`; mend it")
    return said


def known_aliases() -> Mapping[str, tuple[str, str]]:
    """All aliases with what they stand for and where they come from; the user's own win."""
    own = {name: (target, str(aliases_file())) for name, target in user_aliases().items()}
    return {name: (target, "tokswap") for name, target in ALIASES.items()} | own


def resolve(name: str) -> Location:
    """Tell where a name leads, without looking into the place.

    Args:
        name: An alias, a bundled model, a folder, or ``org/model[@revision]`` on the Hub.

    Raises:
        NameUnknownError: If the name is none of these; near names are given.
    """
    aliases = known_aliases()
    target = aliases[name][0] if name in aliases else name
    if target in BUNDLED:
        return Location(name, "bundled", str(BUNDLED_FOLDER / target))
    folder = _as_path(target)
    if target and folder.is_dir():  # an empty name is an unset variable, not this folder
        return Location(name, "folder", str(folder))
    if folder.is_file():
        raise NameUnknownError(f"{name!r} is a file; give the folder that holds the model")
    hub_id, at, revision = target.partition("@")
    if HUB_ID.fullmatch(hub_id) and (revision or not at):
        return Location(name, "hub", hub_id, revision or None)
    if name in aliases:
        raise NameUnknownError(
            f"{name!r} is an alias for {target!r} ({aliases[name][1]}), which is no bundled model, "
            "no folder here and no Hub id (org/model); mend the alias"
        )
    raise NameUnknownError(
        f"{name!r} is no alias, no bundled model, no folder here and no Hub id (org/model)"
        + near(name, [*aliases, *BUNDLED])
        + "; `tokswap models` lists the names"
    )


def _as_path(name: str) -> Path:
    """Read a name as a path; one that cannot be a path is one that does not exist."""
    try:
        path = Path(name).expanduser()
        path.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user, a null byte
        return Path(os.devnull) / "nothing"
    return path


def near(name: str, known: list[str]) -> str:
    """Write the names that a misspelt one may mean: ``; did you mean 'llama'?``, or nothing."""
    found = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(word) for word in found)}?" if found else ""
