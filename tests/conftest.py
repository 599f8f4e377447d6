"""What lies beside the checkout: real tokenizers, texts and two small models."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tokswap.garbage import collect_seldom

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-families",
        action="store_true",
        help="transplant every family of models that transformers has, not only the usual ones",
    )


def pytest_configure() -> None:
    """Let the collector run seldom here, too: an eighth of the time of all tests."""
    collect_seldom()


LONGEST = (
    "test_notebook", "test_families", "test_train", "test_hub", "test_quantised", "test_verify",
)  # fmt: skip
"""Files that take longest: first in the queue, or one process is left alone with them at last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files come first, each in its own order."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; a test that needs it is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Vectors of texts are kept for the session only, also by the processes it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKSWAP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
