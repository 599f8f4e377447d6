"""What every method promises, whatever it does."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.hypernet.made import for_base
from tokswap.errors import MethodError
from tokswap.evaluation.measure import SAMPLE
from tokswap.methods import DEFAULT, METHODS, Answer, Method, Problem, Role, Sizes, WithAverages
from tokswap.planning import Tables, make_plan
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment

LEARNED: dict[str, Any] = {"text": str(SAMPLE), "epochs": 1, "minimum_count": 2, "dimension": 20}
SETTINGS: dict[str, dict[str, Any]] = {
    "omp": {"k": 6},
    "landmarks": {"count": 40},
    "focus": LEARNED,
    "wechsel": LEARNED,
    "tokenadapt": {"encoder": "base", "threshold": None},
    "transtokenizer": {"text": [str(SAMPLE)]},
    "mix": {"of": [{"method": "omp", "parameters": {"k": 6}}, "pieces"]},
    "hypernet": {},  # its checkpoint is written by a fixture
}
AT_MOST = {"focus", "transtokenizer"}
"""Methods that tell the most weights that are usual, for the data decide how many there are."""
FOR_TWO_TABLES = {"hypernet"}
"""Methods that were made for a base of one sort, with a head of its own."""
RANDOM = {"normal"}
"""Methods whose rows depend on which rows are asked for beside them."""

every_method = pytest.mark.parametrize("name", METHODS)
Ask = Callable[..., Problem]


def method(name: str) -> Method:
    return METHODS[name](**SETTINGS.get(name, {}))


def dense(answer: SparseRows | WithAverages | Tensor | Answer) -> Tensor:
    """The answer as a matrix: weights (M, S + 1), or rows (M, D)."""
    if isinstance(answer, Answer):
        if len(answer.places):
            assert len(answer.places) == len(answer)
            return answer.rows
        answer = WithAverages(answer.weights, answer.averages)
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, WithAverages):
        weights, averages = dense(answer.weights), dense(answer.averages)
        own = weights[:, averages.shape[1] + 1 :] @ averages
        return weights[:, : averages.shape[1] + 1] + torch.nn.functional.pad(own, (0, 1))
    matrix = torch.zeros(len(answer), answer.columns)
    for row in range(len(answer)):
        for column, weight in answer.row(row):
            matrix[row, column] = weight
    return matrix


@pytest.fixture(autouse=True, scope="module")
def hypernetwork(tmp_path_factory, alignment: Alignment, base_table: Tensor) -> None:
    folder = for_base(tmp_path_factory.mktemp("net"), alignment.base, base_table.shape[1])
    SETTINGS["hypernet"] = {"checkpoint": str(folder)}


@pytest.fixture(scope="session")
def ids(alignment: Alignment) -> list[int]:
    """Missing tokens from everywhere in the vocabulary."""
    return [int(number) for number in alignment.missing[::37]]


@every_method
@pytest.mark.parametrize("role", ["input", "output"])
def test_gives_a_finite_row_for_each_token(
    name: str, role: str, ask: Ask, ids: list[int], base_table: Tensor
) -> None:
    answer = method(name).fill(ask(ids, role=role))
    columns = base_table.shape[1] if isinstance(answer, Tensor) else len(base_table) + 1
    rows = dense(answer)
    assert rows.shape == (len(ids), columns)
    assert rows.dtype == torch.float32
    assert bool(torch.isfinite(rows).all())


@every_method
def test_leaves_its_inputs_alone(
    name: str, ask: Ask, ids: list[int], alignment, base_table, donor_table
) -> None:
    tables, problem = (base_table, donor_table), ask(ids)
    copies = [table.clone() for table in tables]
    said = copy.deepcopy((problem.ids, alignment.kind, alignment.source, alignment.pieces))
    answer = method(name).fill(problem)
    if isinstance(answer, Tensor):
        answer += 1  # the rows are the caller's to write to
    assert all(torch.equal(table, kept) for table, kept in zip(tables, copies, strict=True))
    assert problem.ids == said[0]
    assert (alignment.kind == said[1]).all()
    assert (alignment.source == said[2]).all()
    assert alignment.pieces == said[3]


@every_method
def test_same_seed_same_rows(name: str, ask: Ask, ids: list[int]) -> None:
    first, second = (dense(method(name).fill(ask(ids, seed=7))) for _ in range(2))
    assert torch.equal(first, second)


@every_method
def test_says_whether_its_rows_depend_on_the_seed(name: str, ask: Ask, ids: list[int]) -> None:
    first, second = (dense(method(name).fill(ask(ids, seed=seed))) for seed in (7, 8))
    assert torch.equal(first, second) != method(name).draws


@every_method
@pytest.mark.parametrize("chosen", [slice(None, None, -1), slice(3, 17), slice(5, 6)])
def test_a_row_does_not_depend_on_its_place_or_company(
    name: str, chosen: slice, ask: Ask, ids: list[int]
) -> None:
    everything = dense(method(name).fill(ask(ids)))
    some = dense(method(name).fill(ask(ids[chosen])))
    wanted = everything[list(range(len(ids)))[chosen]]
    assert some.shape == wanted.shape
    if name not in RANDOM:
        torch.testing.assert_close(some, wanted, rtol=1e-4, atol=1e-6)


@every_method
@pytest.mark.parametrize("role", ["input", "output"])
def test_the_weights_reproduce_the_rows_of_the_plan(
    name: str, role: Role, ask: Ask, ids: list[int], alignment, base_table, donor_table
) -> None:
    own: dict[Role, Method] = {"input": method(name), "output": method(name)}
    tied = role == "input" and name not in FOR_TWO_TABLES
    tables = Tables(lambda _: base_table, lambda _: donor_table, tied=tied)
    written = make_plan(alignment, own, tables, only=ids).apply(base_table, role)[ids]
    answer = method(name).fill(replace(ask(ids, role=role), tied=tables.tied))
    if isinstance(answer, Tensor):
        assert torch.equal(written, answer)
    else:
        mean = base_table[alignment.used_base_ids].mean(dim=0, keepdim=True)
        rows = dense(answer) @ torch.cat([base_table, mean])
        torch.testing.assert_close(written, rows, rtol=1e-4, atol=1e-4)


@every_method
def test_says_whether_the_bases_rows_are_in_its_answer(
    name: str, ask: Ask, ids: list[int], base_table: Tensor
) -> None:
    answers = [method(name).fill(ask(ids, base=rows)) for rows in (base_table, base_table.roll(1))]
    assert torch.equal(*map(dense, answers)) != method(name).needs_base
    assert method(name).needs_base or not isinstance(answers[0], Tensor)


@every_method
def test_says_whether_the_role_decides(name: str, ask: Ask, ids: list[int]) -> None:
    answers = [method(name).fill(ask(ids, role=role)) for role in ("input", "output")]
    assert torch.equal(*map(dense, answers)) != method(name).differs_by_role


@every_method
def test_tells_what_its_answer_takes(
    name: str, ask: Ask, alignment: Alignment, base_table: Tensor, donor_table: Tensor
) -> None:
    sizes = Sizes(alignment, base_table.shape[1], donor_table.shape[1])
    cost = method(name).cost(sizes)
    role = "output" if method(name).differs_by_role else "input"
    answer = method(name).fill(ask([int(number) for number in alignment.missing], role=role))
    assert cost.dense == isinstance(answer, Tensor)
    assert not (cost.dense and cost.weights)
    if isinstance(answer, WithAverages | Answer):
        held = len(answer.weights.indices) + len(answer.averages.indices)
        assert 0.8 * cost.weights <= held <= cost.weights
    elif not isinstance(answer, Tensor):
        least = 0 if name in AT_MOST else 0.8 * cost.weights
        assert least <= len(answer.indices) <= cost.weights
    assert cost.memory > 0 or not (method(name).needs_base or method(name).needs_donor)


@every_method
def test_asked_for_no_rows_gives_none(name: str, ask: Ask) -> None:
    assert len(dense(method(name).fill(ask([])))) == 0


@every_method
def test_works_on_half_types(
    name: str, ask: Ask, ids: list[int], base_table: Tensor, donor_table: Tensor
) -> None:
    problem = ask(ids, base=base_table.bfloat16(), donor=donor_table.bfloat16())
    assert bool(torch.isfinite(dense(method(name).fill(problem))).all())


@every_method
def test_reads_the_donor_only_if_it_says_so(name: str, ask: Ask, ids: list[int]) -> None:
    problem = ask(ids, donor=None)
    if method(name).needs_donor:
        with pytest.raises(MethodError, match=r"needs the donor's weights .*'tiny-mistral'"):
            method(name).fill(problem)
    else:
        assert len(dense(method(name).fill(problem))) == len(ids)


@every_method
def test_says_what_it_is(name: str) -> None:
    kind = METHODS[name]
    assert name == name.lower()
    for said in (kind.__doc__, kind.summary, kind.paper):
        assert said
        assert said.strip()
    assert "\n" not in kind.summary + kind.paper
    assert all(field.description for field in kind.model_fields.values())


@every_method
def test_has_defaults_and_refuses_unknown_settings(name: str) -> None:
    METHODS[name]()
    with pytest.raises(ValidationError, match="Extra inputs"):
        METHODS[name](bogus=1)


def test_the_default_is_a_method() -> None:
    assert DEFAULT in METHODS


@every_method
def test_tells_what_else_decides_its_rows(name: str) -> None:
    """The version of gensim, and hashes; two calls say the same."""
    said = method(name).sources()
    assert said == method(name).sources()
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}|[\d.]+", text) for text in said.values())
    learns = {"focus", "wechsel", "transtokenizer"}
    assert (str(SAMPLE) in said) == (name in learns)
