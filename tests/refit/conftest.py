"""Both bundled pairs with their bases loaded, and some text to refit to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.refit.made import Bench, bench, prose


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small lose more to waiting threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of English prose, in which new tokens of either pair stand often."""
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text(prose(100_000), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def untied() -> Bench:
    return bench("tiny-mistral", "tiny-llama")


@pytest.fixture(scope="session")
def tied() -> Bench:
    return bench("tiny-llama", "tiny-mistral")
