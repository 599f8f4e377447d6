"""By what an earlier run is known to have measured the same thing."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tokswap.checkpoint.source import Checkpoint
from tokswap.vocabulary.identity import content_hash

WHOLE = 256 << 20
"""Bytes up to which a file that a setting names is known by its content; by its time beyond."""
NO_FIGURE = ("cli", "report", "bundled")
"""Parts of the program that change no figure."""

LIBRARIES = ("torch", "transformers", "tokenizers", "gensim", "sentence-transformers")
"""Other programs whose figures may differ from version to version."""


def digest(said: Any) -> str:
    """Hash what JSON knows."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@cache
def program() -> dict[str, str]:
    """Tell which program this is: its version, and a hash of what decides the figures."""
    import tokswap

    package = Path(tokswap.__file__).parent
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0] not in NO_FIGURE:
            found.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    said = {"version": importlib.metadata.version("tokswap"), "source": found.hexdigest()}
    said["python version"] = platform.python_version()  # whose documentation methods learn from
    return said | {f"{name} version": _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def of_model(checkpoint: Checkpoint) -> dict[str, Any]:
    """Tell which model this is: its vocabulary, its settings and its weights.

    Weights on the Hub are known by their commit, those in a folder by their sizes and times.

    Raises:
        TokswapError: If its files cannot be read.
    """
    files = checkpoint.files
    said: dict[str, Any] = {"vocabulary": content_hash(checkpoint.vocabulary)}
    said["specification"] = digest(checkpoint.vocabulary.specification)
    if "config.json" in files.names:
        said["config"] = checkpoint.config
    if not checkpoint.has_weights:
        return said
    if files.revision:
        said["weights"] = files.revision
    else:
        paths = [files.path(name) for name in checkpoint.shards]
        said["weights"] = [_by_time(path) for path in paths]
    return said


def of_files(settings: Any) -> dict[str, Any]:
    """Tell what lies in the files and folders that settings name."""
    return {name: _content(Path(name).expanduser()) for name in sorted(set(_paths(settings)))}


def _paths(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        try:
            if Path(said).expanduser().exists():
                yield said
        except (OSError, RuntimeError, ValueError):  # no path at all
            return
    elif isinstance(said, Mapping):
        for part in said.values():
            yield from _paths(part)
    elif isinstance(said, list | tuple):
        for part in said:
            yield from _paths(part)


def _content(path: Path) -> Any:
    if path.is_dir():
        return sorted(_by_time(inner) for inner in path.iterdir() if inner.is_file())
    if path.stat().st_size > WHOLE:
        return _by_time(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _by_time(path: Path) -> list[Any]:
    seen = path.stat()
    return [path.name, seen.st_size, seen.st_mtime_ns]
