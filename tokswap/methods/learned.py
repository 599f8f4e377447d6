"""What methods that learn from a text have in common: settings, and what is checked at once."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tokswap.errors import MethodError
from tokswap.static_vectors import NO_GENSIM
from tokswap.training_text import documentation_hash

Dimension = Annotated[int, Field(gt=0, description="numbers in a fastText vector")]
Epochs = Annotated[int, Field(gt=0, description="passes over the text")]
MinimumCount = Annotated[
    int, Field(gt=0, description="what occurs less often in the text has no vector")
]


def learned_from(
    paths: Iterable[str], *, documentation: bool, package: str | None = None
) -> dict[str, str]:
    """Tell what a method learns from, as :meth:`~tokswap.methods.base.Method.sources` does.

    Args:
        paths: Files.
        documentation: Whether it learns from the documentation of Python's library too.
        package: What it is learned by, where that is a package.

    Raises:
        MethodError: If a file cannot be read.
    """
    found = {path: _hash(path) for path in paths}
    if documentation:
        found["documentation of Python's library"] = documentation_hash()
    return found | ({package: version(package)} if package else {})


def _hash(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise MethodError(f"{path} cannot be read: {error.strerror}; check its path") from error


def check_learning(paths: Iterable[str], method: str, *, trained: bool = True) -> None:
    """Check what needs no time, before anything slow.

    Args:
        paths: Files that will be read.
        method: What messages call the method.
        trained: Whether gensim will train vectors, or read them.

    Raises:
        MethodError: If a file is missing or empty, or gensim is not installed.
    """
    for path in paths:
        if Path(path).is_dir():
            raise MethodError(f"{method} cannot read {path}: it is a folder; give the files in it")
        if not Path(path).is_file():
            raise MethodError(f"{method} cannot read {path}: there is no such file; check its path")
        if not Path(path).stat().st_size:
            raise MethodError(
                f"{method} cannot learn from {path}, which is empty; give a file that holds some "
                "text, or leave it out"
            )
    if trained and find_spec("gensim") is None:
        raise MethodError(NO_GENSIM.format(method=method))
