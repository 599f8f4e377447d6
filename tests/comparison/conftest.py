"""A short text, and a comparison of the bundled pair on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokswap.comparison.compare import Compared, compare
from tokswap.names import BUNDLED_FOLDER

PAIR: dict[str, Any] = {"base_model": "tiny-llama", "donor": "tiny-mistral"}
FEW = ["pieces", {"method": "omp", "parameters": {"k": [2, 4]}}, "normal"]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few lines, in which tokens stand once and several times."""
    path = tmp_path_factory.mktemp("text") / "short.txt"
    raw = (BUNDLED_FOLDER / "sample.txt").read_bytes()[:1500]
    path.write_bytes(raw.decode("utf-8", errors="ignore").encode())
    return path


@pytest.fixture(scope="session")
def asked(text: Path) -> Callable[..., dict[str, Any]]:
    """Ask for a comparison on the short text."""

    def ask(**said: Any) -> dict[str, Any]:
        measured = {"text": [str(text)], "window": 128, "stride": 64}
        return {**PAIR, "eval": measured, "methods": FEW, "seed": [0, 1], "device": "cpu", **said}

    return ask


@pytest.fixture(scope="session")
def compared(asked: Callable[..., dict[str, Any]], tmp_path_factory: Any) -> Compared:
    """Pieces, OMP with two values, and samples with two seeds."""
    return compare(**asked(out=str(tmp_path_factory.mktemp("out") / "few")))
