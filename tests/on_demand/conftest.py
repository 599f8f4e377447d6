"""Embedders of the bundled models, each opened once."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch

from tokswap.on_demand.embedder import TokenEmbedder, embedder


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def opened() -> Callable[[str], TokenEmbedder]:
    """An embedder by pieces, different in both roles, by the name of its model."""
    settings = {"strategy": "asymmetric"}
    return cache(lambda name: embedder(name, method="pieces", parameters=settings))
