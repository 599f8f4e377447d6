"""The licences of both models: they go along, and the model card names them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import RECORD

LICENCE = re.compile(
    r"(licen[cs]e|notice|copying|use[_-]policy|acceptable[_-]use)\b.*|(licen[cs]e|notice)_.*", re.I
)
"""Names of files that say on what terms a model is given."""


def licence_files(side: Checkpoint) -> list[str]:
    """Name the files that say on what terms a model is given."""
    return sorted(name for name in side.files.names if LICENCE.fullmatch(name))


def files_for_card(side: Checkpoint) -> list[str]:
    """Name the files of a model that the model card of the output is made from."""
    return [*licence_files(side), *({"README.md"} & side.files.names)]


def donor_licences(base: Checkpoint, donor: Checkpoint) -> Mapping[str, Path]:
    """Find the donor's licence files that differ from the base's.

    Returns:
        Where each lies, by a name that no file of the base has: LICENSE.donor.
    """
    theirs = {base.files.path(name).read_bytes() for name in licence_files(base)}
    found: dict[str, Path] = {}
    ours = RECORD in donor.files.names  # an output of this program, whose base is no donor
    for name in licence_files(donor):
        path = donor.files.path(name)
        if path.read_bytes() in theirs or (ours and ".donor" not in name):
            continue
        names = [name] if ours else _names(name)
        free = (new for new in names if new not in {*base.files.names, *found})
        found[next(free)] = path
    return found


def _names(name: str) -> Iterator[str]:
    plain = Path(name)
    number = 1
    while True:
        mark = ".donor" if number == 1 else f".donor{number}"
        yield f"{plain.stem}{mark}{plain.suffix}"
        number += 1


def stated_licence(side: Checkpoint) -> str | None:
    """Read the licence that a model card states at its head; None where it states none."""
    if "README.md" not in side.files.names:
        return None
    text = side.files.path("README.md").read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
    try:
        said: Any = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return None
    if not isinstance(said, dict):
        return None
    stated = said.get("license")
    if stated in (None, "other"):
        stated = said.get("license_name") or stated
    if isinstance(stated, list):
        stated = ", ".join(map(str, stated))
    return stated if isinstance(stated, str) else None
