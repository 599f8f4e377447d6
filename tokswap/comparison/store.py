"""The folder of a comparison: what was measured is kept as it comes, and found again.

    compare.json, compare.csv, compare.png    what came of it, in the end
    results/NAME-KEY.json                     one finished run each

Files of these names are written, each whole or not at all; nothing else in the folder is touched.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokswap.comparison.identity import digest
from tokswap.errors import OutputError
from tokswap.progress import note

RECORD = "compare.json"
"""By which the folder of a comparison is known."""
TABLE = "compare.csv"
CHART = "compare.png"
RESULTS = "results"
KIND = "tokswap comparison"
KEY_LENGTH = 16
PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
LEFT = 3600
"""Seconds after which a file that is still half written is a killed run's, and not another's that
writes into the folder now."""


class Store:
    """Keeps the results of a comparison.

    Args:
        folder: The comparison's folder.
        pair: What the base and the donor are called; one folder compares on one pair.

    Raises:
        OutputError: If the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, pair: tuple[str, str]) -> None:
        self.folder = folder
        known = _known(folder)
        if known is None and folder.exists() and not _is_free(folder):
            raise OutputError(
                f"{folder} exists and is no comparison, so nothing is written to it; choose "
                "another --out"
            )
        there = tuple(map(str, known["pair"])) if known else pair
        if there != pair:
            raise OutputError(
                f"{folder} compares methods on {' and '.join(there)}; choose another --out for "
                f"{' and '.join(pair)}"
            )
        parent = next(part for part in [folder, *folder.resolve().parents] if part.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OutputError(f"{folder} cannot be written in {parent}; choose another --out")
        self._pair = pair

    def begin(self) -> None:
        """Make the folder, and mark it as a comparison's.

        Raises:
            OutputError: If it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / RECORD).is_file():
                self.write_record({})  # before all else, so that a killed run's folder is known
            (self.folder / RESULTS).mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be created ({error.strerror}); choose another --out"
            ) from error
        for folder in (self.folder, self.folder / RESULTS):
            for path in folder.iterdir():
                if PARTIAL.fullmatch(path.name) and _is_left(path):
                    path.unlink(missing_ok=True)

    def find(self, key: str) -> dict[str, Any] | None:
        """Find what an earlier run has kept under a key; what is damaged is as if not there."""
        for path in sorted((self.folder / RESULTS).glob(f"*-{key[:KEY_LENGTH]}.json")):
            said = _read(path)
            whole = said is not None and said.pop("digest", None) == digest(said)
            if said is not None and whole and said.get("key") == key:
                return said
            note(f"note: {path} is damaged, so it is measured again")
        return None

    def put(self, key: str, label: str, said: Mapping[str, Any]) -> None:
        """Keep a finished run."""
        name = re.sub(r"[^\w.=-]+", "-", label).strip("-.")[:60] or "run"
        kept = {"key": key, **said}
        kept["digest"] = digest(kept)
        for old in (self.folder / RESULTS).glob(f"*-{key[:KEY_LENGTH]}.json"):
            if old.name != f"{name}-{key[:KEY_LENGTH]}.json":
                old.unlink(missing_ok=True)
        self._write_json(f"{RESULTS}/{name}-{key[:KEY_LENGTH]}.json", kept)

    def write_record(self, said: Mapping[str, Any]) -> None:
        """Write compare.json."""
        self._write_json(RECORD, {"kind": KIND, "pair": list(self._pair), **said})

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the comparison, whole or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        path = self.folder / name
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); free some space or choose another "
                "--out, and what is finished is not measured again"
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def _write_json(self, name: str, said: Mapping[str, Any]) -> None:
        text = json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False)
        self.write(name, text.encode() + b"\n")


def _known(folder: Path) -> dict[str, Any] | None:
    """Read the record of the comparison that a folder holds, if it holds one."""
    said = _read(folder / RECORD)
    ours = said is not None and said.get("kind") == KIND and isinstance(said.get("pair"), list)
    return said if ours else None


def _is_free(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what a killed run was about to begin with."""
    return folder.is_dir() and all(PARTIAL.fullmatch(path.name) for path in folder.iterdir())


def _is_left(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEFT
    except FileNotFoundError:  # another run has finished it
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
