"""OMP with the token's last piece in the embedding."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tokswap.methods import METHODS, Answer, Method, Problem
from tokswap.methods.omp_pieces import OMPPieces
from tokswap.reconstruction import without
from tokswap.vocabulary.align import Alignment

Ask = Callable[..., Problem]


def rows(method: Method, problem: Problem) -> Tensor:
    answer = Answer.of(method.fill(problem), problem.alignment.base_rows)
    return answer.held(torch.arange(len(problem.ids)), problem)


@pytest.fixture(scope="session")
def ids(alignment: Alignment) -> list[int]:
    return [int(number) for number in alignment.missing[::23]]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_embeddings_rows_have_a_share_of_the_last_piece(
    share: float, ask: Ask, ids: list[int], base_table: Tensor
) -> None:
    made = rows(OMPPieces(k=3, share=share), ask(ids))
    omp = rows(METHODS["omp"](k=3), ask(ids))
    last = rows(METHODS["pieces"](strategy="last"), ask(ids))
    torch.testing.assert_close(made, (1 - share) * omp + share * last, rtol=1e-4, atol=1e-5)


def test_a_tied_table_has_a_share_of_all_pieces(ask: Ask, ids: list[int]) -> None:
    made = rows(OMPPieces(k=3), replace(ask(ids), tied=True))
    omp, mean = (rows(method, ask(ids)) for method in (METHODS["omp"](k=3), METHODS["pieces"]()))
    torch.testing.assert_close(made, (omp + mean) / 2, rtol=1e-4, atol=1e-5)


def test_the_heads_rows_are_omps(ask: Ask, ids: list[int]) -> None:
    made = rows(OMPPieces(k=3), ask(ids, role="output"))
    assert torch.equal(made, rows(METHODS["omp"](k=3), ask(ids, role="output")))


def test_tokens_without_pieces_are_omps(ask: Ask, alignment: Alignment) -> None:
    held = alignment.anchors[::40].tolist()
    problem = ask(held, given=without(alignment, held))
    assert not any(problem.alignment.pieces[number] for number in held)
    assert torch.equal(rows(OMPPieces(k=3), problem), rows(METHODS["omp"](k=3), problem))


@pytest.mark.parametrize(
    ("width", "anchors", "k"), [(4096, 9999, 64), (1024, 9999, 64), (320, 9999, 20), (144, 9999, 9)]
)
def test_k_follows_the_donors_width(width: int, anchors: int, k: int) -> None:
    assert OMPPieces().steps(width, anchors) == METHODS["omp"]().steps(width, anchors) == k
    assert METHODS["omp"](k=5).steps(width, anchors) == 5


def test_k_is_no_more_than_there_are_anchors() -> None:
    assert METHODS["omp"]().steps(4096, 7) == 7
    assert METHODS["omp"]().steps(8, 100) == 1
