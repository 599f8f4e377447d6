"""The output folder: whether it may be written, and how it appears whole or not at all."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tokswap.checkpoint.leftovers import hold
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import OutputError

RECORD = "tokswap.json"
"""Name of the record, by which an output of this program is known."""


def check_target(target: Path, sources: list[Checkpoint], *, overwrite: bool) -> None:
    """Check that a folder may be written, before anything slow is done.

    Args:
        target: The folder to write.
        sources: Checkpoints that are read from.
        overwrite: Whether an earlier output of this program there may be replaced.

    Raises:
        OutputError: If it is one of the sources, holds something already, or cannot be created.
    """
    resolved = target.resolve()
    for source in sources:
        if source.location.kind == "hub":
            continue
        folder = Path(source.location.target).resolve()
        if resolved == folder or folder in resolved.parents or resolved in folder.parents:
            raise OutputError(
                f"the output {target} and {source.name!r} are the same folder, or one lies in the "
                "other; choose another output"
            )
    if os.path.ismount(resolved):
        raise OutputError(
            f"{target} is where a disk is mounted, which cannot be replaced; give a folder in it"
        )
    if target.exists():
        known = target.is_dir() and (not any(target.iterdir()) or (target / RECORD).is_file())
        if not known:
            raise OutputError(
                f"{target} exists and is no output of this program, so it is never replaced; "
                "choose another output, or remove it yourself"
            )
        if any(target.iterdir()) and not overwrite:
            raise OutputError(f"{target} exists; choose another output, or give --overwrite")
        if others := _not_ours(target):
            raise OutputError(
                f"{target} holds files that this program did not write ({', '.join(others[:3])}); "
                "move them, or choose another output"
            )
    parent = next(folder for folder in resolved.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{target} cannot be created in {parent}; choose another output")


def _not_ours(target: Path) -> list[str]:
    """Name what lies in an earlier output and is not in its record's list of files."""
    record = target / RECORD
    try:
        ours = json.loads(record.read_text(encoding="utf-8")).get("files")
    except (OSError, ValueError, AttributeError):
        ours = None
    return sorted({path.name for path in target.iterdir()} - set(ours)) if ours else []


def check_space(target: Path, needed: int) -> None:
    """Check that a disk has room for what will be written.

    Args:
        target: The folder to write.
        needed: Bytes that will be written.

    Raises:
        OutputError: If the disk has too little space.
    """
    parent = next(folder for folder in target.resolve().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise OutputError(
            f"{target} needs about {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB; "
            "free some space or choose another disk"
        )


@contextmanager
def staging(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder beside the target that takes its place at the end, whole or not at all.

    Where the body fails or is interrupted the folder is removed and the target is untouched.

    Args:
        target: The folder to write.
        overwrite: Whether an earlier output of this program there may be replaced.

    Yields:
        The folder to write into.

    Raises:
        OutputError: If a folder cannot be created there, a file cannot be written, or something
            has come to lie at the target meanwhile.
    """
    shown, target = target, target.resolve()  # the folder that a link leads to, not the link
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    made = [folder for folder in stage.parents if not folder.exists()]  # the innermost first
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        _remove_empty(made)
        raise OutputError(
            f"{shown} cannot be created ({error.strerror}); choose another"
        ) from error
    try:
        with hold(stage):
            yield stage
            _replace(stage, target, overwrite)
    except OSError as error:
        raise OutputError(
            f"writing {shown} stopped: {error.strerror or error} "
            f"({Path(error.filename or target).name}); nothing was kept; free some space or choose "
            "another output"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders that were made for a target that never came."""
    for folder in folders:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _replace(stage: Path, target: Path, overwrite: bool) -> None:
    if not (overwrite and (target / RECORD).is_file()):
        try:
            stage.rename(target)  # where an empty folder lies, it is replaced
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            raise OutputError(
                f"{target} has come to lie there meanwhile and is not replaced; nothing was kept; "
                "choose another output"
            ) from error
        return
    old = stage.with_suffix(".old")
    target.rename(old)
    try:
        stage.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)
