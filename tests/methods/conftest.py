"""Problems to set the methods: the bundled vocabularies with random tables, and tiny ones."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor

from tests.encoders.conftest import small_bert  # noqa: F401 - a fixture
from tokswap.checkpoint.source import Checkpoint
from tokswap.methods import Problem, Role
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

PADDING = 5
"""Rows without a token at the end of either vocabulary."""


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_table(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def alignment() -> Alignment:
    """tiny-mistral's vocabulary against tiny-llama's; their weights are not read."""
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-llama", "tiny-mistral"))
    return align(base, donor, base_rows=len(base) + PADDING, rows=len(donor) + PADDING)


@pytest.fixture(scope="session")
def base_table(alignment: Alignment) -> Tensor:
    return random_table(alignment.base_rows, 24, 1)


@pytest.fixture(scope="session")
def donor_table(alignment: Alignment) -> Tensor:
    return random_table(alignment.rows, 40, 2)


@pytest.fixture
def ask(alignment: Alignment, base_table: Tensor, donor_table: Tensor) -> Callable[..., Problem]:
    """Make a problem; what is not given is random, or the bundled pair's."""

    def make(
        ids: Sequence[int],
        *,
        role: Role = "input",
        given: Alignment = alignment,
        base: Tensor = base_table,
        donor: Tensor | None = donor_table,
        seed: int = 0,
    ) -> Problem:
        return Problem(
            role=role,
            alignment=given,
            ids=list(ids),
            base_table=lambda: base,
            donor_table=None if donor is None else lambda: donor,
            generator=torch.Generator().manual_seed(seed),
            device="cpu",
        )

    return make


@pytest.fixture
def tiny_vocabulary(tmp_path: Path) -> Callable[..., Vocabulary]:
    """Make a vocabulary of plain text tokens, in the order given, with merges of pairs."""

    def make(name: str, tokens: Sequence[str], *merges: tuple[str, str]) -> Vocabulary:
        table = {token: number for number, token in enumerate(tokens)}
        path = tmp_path / f"{name}.json"
        path.write_text(Tokenizer(models.BPE(table, list(merges))).to_str(), encoding="utf-8")
        return load_vocabulary({"tokenizer.json": path}, name=name)

    return make
