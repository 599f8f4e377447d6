"""The text that methods learn from: files, or what every Python installation carries."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tokswap.bundled.train.corpus import training_prose
from tokswap.errors import EvaluationError, MethodError
from tokswap.evaluation.texts import file_chunks
from tokswap.progress import note

MAX_BYTES = 32 << 20
"""Bytes of text that are read where nothing else is said: minutes of training."""
DOCUMENT = 1 << 14
"""Characters of a file after which a document ends at the next line end."""


def training_documents(
    paths: Sequence[str], *, method: str, max_bytes: int = MAX_BYTES
) -> list[str]:
    """Read the text that a method learns from.

    Files are cut into documents at line ends, so that tokenizers need not take them at once.

    Args:
        paths: Text files in UTF-8. Without any, the documentation of Python's library, which every
            installation carries; what ``tokswap evaluate`` may measure on is not in it.
        method: What messages call the method.
        max_bytes: Read no more than this of all files together; a note tells where text is left.

    Returns:
        Documents, none of them blank, in the order of the files.

    Raises:
        MethodError: If a file is missing, blank or not UTF-8.
    """
    if not paths:
        note(
            f"{method} learns from the documentation of Python's library; a text of your own "
            "domain and language is better: --set method.text=FILE, or --train-text FILE to compare"
        )
        return list(_documentation())
    documents: list[str] = []
    left = max_bytes
    for path in paths:
        before = len(documents)
        try:
            for document in _documents(Path(path)):
                size = len(document.encode())
                if size > left:
                    note(
                        f"{method} learns from the first {max_bytes / (1 << 20):.3g} MiB of its "
                        "text and leaves out the rest"
                    )
                    return documents or [document]
                left -= size
                documents.append(document)
        except EvaluationError as error:
            raise MethodError(f"{method} cannot read its text: {error}") from error
        if len(documents) == before:
            raise MethodError(
                f"{method} cannot learn from {path}, which is empty; give a file that holds some "
                "text, or leave `text` out for the documentation of Python's library"
            )
    return documents


@cache
def _documentation() -> tuple[str, ...]:
    """Read Python's documentation, which takes seconds."""
    return tuple(text for text in training_prose() if text.strip())


def documentation_hash() -> str:
    """Tell this Python's documentation from another's."""
    digest = hashlib.sha256()
    for document in _documentation():
        digest.update(document.encode() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _documents(path: Path) -> Iterator[str]:
    """Cut a file behind line ends into documents that are not blank."""
    held = ""
    for chunk in file_chunks(path):
        held += chunk
        while (end := held.find("\n", DOCUMENT) + 1) and end < len(held):
            if held[:end].strip():
                yield held[:end]
            held = held[end:]
    if held.strip():
        yield held
