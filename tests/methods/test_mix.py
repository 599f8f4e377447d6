"""Mixtures and methods by kind: their rows are made of the rows of their parts."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tokswap.methods import METHODS, Answer, Method, Problem
from tokswap.methods.by_kind import ByKind
from tokswap.methods.mix import Mix
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.kinds import KINDS

Ask = Callable[..., Problem]
OMP, RIDGE, LAST = {"method": "omp", "parameters": {"k": 4}}, {"method": "ridge"}, "pieces"


def rows(method: Method, problem: Problem) -> Tensor:
    """The rows that a method makes, whichever way it answers."""
    answer = Answer.of(method.fill(problem), problem.alignment.base_rows)
    return answer.held(torch.arange(len(problem.ids)), problem)


def held(method: Method, problem: Problem) -> Tensor:
    return Answer.of(method.fill(problem), problem.alignment.base_rows).places


@pytest.fixture(scope="session")
def ids(alignment: Alignment) -> list[int]:
    return [int(number) for number in alignment.missing[::11]]


@pytest.mark.parametrize(
    ("of", "shares"),
    [
        ([OMP, LAST], [0.5, 0.5]),
        ([OMP | {"weight": 3}, {"method": "mean", "weight": 1}], [0.75, 0.25]),
        ([OMP | {"weight": 1.5}, {"method": "pieces", "weight": -0.5}], [1.5, -0.5]),
        ([RIDGE, OMP, LAST], [1 / 3] * 3),
        ([RIDGE, {"method": "landmarks", "parameters": {"count": 40}}], [0.5, 0.5]),
        ([RIDGE], [1.0]),
        ([{"method": "mix", "parameters": {"of": [OMP, LAST]}}, "mean"], [0.5, 0.5]),
    ],
)
def test_a_mixture_is_the_weighted_sum(
    of: list, shares: list[float], ask: Ask, ids: list[int]
) -> None:
    mix = Mix(of=of)
    parts = [rows(share.made, ask(ids)) for share in mix.of]
    wanted = sum(share * part for share, part in zip(shares, parts, strict=True))
    torch.testing.assert_close(rows(mix, ask(ids)), wanted, rtol=1e-4, atol=1e-5)


def test_weights_are_shares(ask: Ask, ids: list[int]) -> None:
    small, large = (
        Mix(of=[OMP | {"weight": 2 * size}, {"method": "mean", "weight": size}])
        for size in (1e-3, 1e3)
    )
    torch.testing.assert_close(rows(small, ask(ids)), rows(large, ask(ids)))


def test_what_combines_base_rows_stays_a_plan(ask: Ask, ids: list[int]) -> None:
    assert not len(held(Mix(of=[OMP, LAST, "mean"]), ask(ids)))
    assert len(held(Mix(of=[OMP, RIDGE]), ask(ids))) == len(ids)


def test_a_mixture_of_one_is_that_one_bit_for_bit(ask: Ask, ids: list[int]) -> None:
    problem = ask(ids)
    alone = Answer.of(METHODS["omp"](k=4).fill(problem), problem.alignment.base_rows)
    mixed = Mix(of=[OMP]).fill(problem)
    for name in ("indptr", "indices", "weights"):
        assert torch.equal(getattr(alone.weights, name), getattr(mixed.weights, name))


def test_parts_leave_out_what_each_finds_odd(
    ask: Ask, ids: list[int], alignment: Alignment, base_table: Tensor
) -> None:
    base = base_table.clone()
    base[alignment.source[alignment.anchors[::3]]] *= 4  # odd, but not beyond all measure
    parts = [
        {"method": "clp", "parameters": {"k": 3, "outliers": outliers}} for outliers in (3.0, 1e6)
    ]
    alone = [rows(Mix(of=[part]), ask(ids, base=base)) for part in parts]
    assert not torch.allclose(*alone)
    wanted = (alone[0] + alone[1]) / 2
    for order in (parts, parts[::-1]):
        made = rows(Mix(of=order), ask(ids, base=base))
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)


def test_it_needs_what_its_parts_need() -> None:
    assert not Mix(of=["pieces", "mean"]).needs_donor
    assert Mix(of=["pieces", "omp"]).needs_donor
    assert not Mix(of=["pieces", "omp"]).needs_base
    assert Mix(of=["pieces", "ridge"]).needs_base
    assert Mix(of=["pieces", "normal"]).draws
    assert not Mix(of=["pieces", "omp"]).draws
    assert Mix(of=["omp", "transplant-vocab"]).differs_by_role
    assert not Mix(of=["omp", "pieces"]).differs_by_role
    ordinary, odd = (
        ByKind(rest=METHODS["mean"](), kinds={"digits": METHODS[name]()})
        for name in ("omp", "normal")
    )
    assert (ordinary.draws, ordinary.needs_base) == (False, False)
    assert (odd.draws, odd.needs_base) == (True, True)
    assert ByKind(rest=METHODS["transplant-vocab"](), kinds={}).differs_by_role
    assert ByKind(rest=METHODS["mean"](), kinds={"digits": METHODS["omp"]()}).needs_donor
    assert not ByKind(rest=METHODS["mean"](), kinds={"digits": METHODS["pieces"]()}).needs_donor


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ([], "give at least one method"),
        ([{"method": "omp", "weight": 1}, {"method": "mean", "weight": -1}], "add up to 0"),
        ([{"method": "omp", "weight": 0}], "add up to 0"),
        (["opm"], "'opm' is unknown; did you mean 'omp'"),
        ([{"method": "omp", "parameters": {"kk": 3}}], "kk: unknown key; did you mean 'k'"),
        ([{"method": "omp", "weight": float("nan")}], "finite number"),
        ([{"method": "omp", "share": 2}], "Extra inputs"),
    ],
)
def test_what_makes_no_mixture_is_refused(of: list, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Mix(of=of)


def test_every_kind_gets_the_rows_of_its_method(
    ask: Ask, alignment: Alignment, ids: list[int]
) -> None:
    problem = ask(ids)
    kinds = {"code": METHODS["ridge"](), "word_starts": METHODS["pieces"](strategy="last")}
    rest = METHODS["omp"](k=3)
    made = rows(ByKind(rest=rest, kinds=kinds), problem)
    spelling = [alignment.donor.spelling[number] or b"" for number in ids]
    code = [KINDS["code"](text) for text in spelling]
    starts = [KINDS["word_starts"](s) and not c for s, c in zip(spelling, code, strict=True)]
    assert 0 < sum(code) < len(ids)
    assert 0 < sum(starts) < len(ids)
    for place, (is_code, is_start) in enumerate(zip(code, starts, strict=True)):
        method = kinds["code"] if is_code else kinds["word_starts"] if is_start else rest
        alone = rows(method, ask([ids[place]]))[0]
        torch.testing.assert_close(made[place], alone, rtol=1e-4, atol=1e-5)


def test_no_tokens_of_any_kind(ask: Ask) -> None:
    made = ByKind(rest=METHODS["pieces"](), kinds={"digits": METHODS["mean"]()}).fill(ask([]))
    assert (len(made), len(made.places)) == (0, 0)


def test_one_method_for_all_kinds_is_that_method(ask: Ask, ids: list[int]) -> None:
    omp = METHODS["omp"](k=3)
    everywhere = ByKind(rest=omp, kinds=dict.fromkeys(KINDS, omp))
    torch.testing.assert_close(rows(everywhere, ask(ids)), rows(omp, ask(ids)))


@pytest.mark.parametrize(
    ("token", "kinds"),
    [
        (b" the", {"word_starts"}),
        (b"the", {"word_parts"}),
        (b"getItem", {"code", "word_parts"}),
        (b" 2024", {"digits"}),
        (b"\xe2\x82", {"bytes"}),
        (b"();", {"code", "punctuation"}),
        (b"\n    ", {"code", "spaces"}),
        (b", ", {"punctuation"}),
        ("é".encode(), {"word_parts"}),
    ],
)
def test_the_kinds_of_a_token(token: bytes, kinds: set[str]) -> None:
    assert {name for name, test in KINDS.items() if test(token)} == kinds
