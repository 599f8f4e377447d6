"""The weights of the pieces, written out."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tokswap.methods import METHODS, Method, Problem, Role
from tokswap.methods.pieces import Pieces
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary

Ask = Callable[..., Problem]
A, B, AB, C = range(4)
BASE = ["a", "b", "ab", "c"]
CAB, ABCAB, NONE, BAD = range(1, 5)
DONOR = ["a", "cab", "abcab", "☃", "bad"]
MEAN_COLUMN = 4


@pytest.fixture
def tiny(tiny_vocabulary: Callable[..., Vocabulary]) -> Alignment:
    base = tiny_vocabulary("base", BASE, ("a", "b"))
    donor = tiny_vocabulary("donor", DONOR)
    return align(base, donor, base_rows=len(BASE), rows=len(DONOR))


def weights(
    ask: Ask, tiny: Alignment, method: Method, number: int, role: Role = "input"
) -> dict[int, float]:
    return dict(method.fill(ask([number], given=tiny, role=role)).row(0))


@pytest.mark.parametrize(
    ("settings", "cab", "abcab"),
    [
        ({}, {C: 1 / 2, AB: 1 / 2}, {AB: 2 / 3, C: 1 / 3}),
        ({"strategy": "mean"}, {C: 1 / 2, AB: 1 / 2}, {AB: 2 / 3, C: 1 / 3}),
        ({"strategy": "first"}, {C: 1.0}, {AB: 1.0}),
        ({"strategy": "last"}, {AB: 1.0}, {AB: 1.0}),
        ({"strategy": "decayed"}, {C: 2 / 3, AB: 1 / 3}, {AB: 5 / 7, C: 2 / 7}),
        ({"strategy": "decayed", "decay": 0.25}, {C: 4 / 5, AB: 1 / 5}, {AB: 17 / 21, C: 4 / 21}),
        ({"strategy": "decayed", "decay": 1}, {C: 1 / 2, AB: 1 / 2}, {AB: 2 / 3, C: 1 / 3}),
    ],
)  # fmt: skip
def test_weights(ask: Ask, tiny: Alignment, settings, cab, abcab) -> None:
    assert tiny.pieces[CAB] == [C, AB]
    assert tiny.pieces[ABCAB] == [AB, C, AB]
    assert weights(ask, tiny, Pieces(**settings), CAB) == pytest.approx(cab)
    assert weights(ask, tiny, Pieces(**settings), ABCAB) == pytest.approx(abcab)


@pytest.mark.parametrize("strategy", ["mean", "first", "last", "decayed"])
def test_a_token_without_pieces_is_the_mean(ask: Ask, tiny: Alignment, strategy: str) -> None:
    assert tiny.pieces[NONE] == []
    assert weights(ask, tiny, Pieces(strategy=strategy), NONE) == {MEAN_COLUMN: 1.0}


def test_bytes_that_the_base_cannot_write_are_left_out(ask: Ask, tiny: Alignment) -> None:
    assert weights(ask, tiny, Pieces(), BAD) == pytest.approx({B: 1 / 2, A: 1 / 2})


ASYMMETRIC = [
    Pieces(strategy="asymmetric"),
    Pieces(strategy="suited"),
    METHODS["transplant-vocab"](),
]


@pytest.mark.parametrize("method", ASYMMETRIC)
def test_asymmetric_is_the_last_piece_as_input_and_mostly_the_first_as_output(
    method: Method, ask: Ask, tiny: Alignment
) -> None:
    assert method.differs_by_role
    assert weights(ask, tiny, method, CAB) == {AB: 1.0}
    assert weights(ask, tiny, method, CAB, "output") == pytest.approx({C: 2 / 3, AB: 1 / 3})


def test_suited_is_the_mean_where_one_table_serves_both_roles(ask: Ask, tiny: Alignment) -> None:
    problem = replace(ask([CAB, ABCAB], given=tiny), tied=True)
    made = [dict(Pieces(strategy=name).fill(problem).row(0)) for name in ("suited", "mean")]
    assert made[0] == made[1] == pytest.approx({C: 1 / 2, AB: 1 / 2})


def test_transplant_vocab_decays_as_said(ask: Ask, tiny: Alignment) -> None:
    method = METHODS["transplant-vocab"](decay=0.25)
    assert weights(ask, tiny, method, CAB, "output") == pytest.approx({C: 4 / 5, AB: 1 / 5})


@pytest.mark.parametrize("name", ["retok", "fvt"])
@pytest.mark.parametrize("role", ["input", "output"])
def test_retok_and_fvt_are_the_mean(name: str, role: Role, ask: Ask, tiny: Alignment) -> None:
    method = METHODS[name]()
    assert not method.differs_by_role
    for number in (CAB, ABCAB, NONE):
        assert weights(ask, tiny, method, number, role) == weights(ask, tiny, Pieces(), number)
