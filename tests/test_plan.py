"""The plan: products, files, explanations, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokswap.errors import CheckpointError
from tokswap.plan import Plan, RolePlan
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Kind

S, D = 6, 4
MEAN = S
USED = [0, 1, 2, 4]
WEIGHTS = [
    {3: 1.0},  # a copy
    {MEAN: 1.0},  # the mean
    {0: 0.25, 5: -1.5, 2: 0.5},
    {},  # zeros
    {1: 0.5, MEAN: 0.5},
]
KINDS = [Kind.SHARED, Kind.UNMATCHED, Kind.MISSING, Kind.OVERRIDE, Kind.MISSING]
DENSE = {2: [9.0, 8.0, 7.0, 6.0]}


def role_plan(
    weights: list[dict[int, float]] = WEIGHTS, dense: dict[int, list[float]] | None = None
) -> RolePlan:
    dense = dense or {}
    rows = [{} if number in dense else row for number, row in enumerate(weights)]
    return RolePlan(
        weights=SparseRows.from_lists([[*r] for r in rows], [[*r.values()] for r in rows], S + 1),
        averages=SparseRows.from_lists([USED], [[0.25] * 4], S),
        dense_ids=torch.tensor(sorted(dense), dtype=torch.int64),
        dense_rows=torch.tensor([dense[n] for n in sorted(dense)]).reshape(
            len(dense), D * bool(dense)
        ),
    )


def plan(**roles: RolePlan) -> Plan:
    about = {"base": {"name": "база"}, "method": "pieces"}
    return Plan({"input": role_plan(), **roles}, torch.tensor(KINDS, dtype=torch.uint8), about)


def table(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def product(rows: Tensor) -> Tensor:
    """The plan's rows by a dense product."""
    matrix = torch.zeros(len(WEIGHTS), S + 1)
    for number, row in enumerate(WEIGHTS):
        for column, weight in row.items():
            matrix[number, column] = weight
    return matrix @ torch.cat([rows, rows[USED].mean(dim=0, keepdim=True)])


@pytest.mark.parametrize("width", [1, D, 700])
def test_apply_is_the_product(width: int) -> None:
    rows = table(S, width)
    torch.testing.assert_close(plan().apply(rows), product(rows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_apply_keeps_the_type_and_copies_bit_for_bit(dtype: torch.dtype) -> None:
    rows = table(S, D, dtype=dtype)
    before = rows.clone()
    result = plan().apply(rows)
    assert result.dtype == dtype
    assert torch.equal(result[0], rows[3])
    assert torch.equal(rows, before)
    torch.testing.assert_close(result.float(), product(rows.float()), rtol=1e-2, atol=1e-2)


def test_a_bias_may_be_held_too(tmp_path: Path) -> None:
    """Where it is, the rows that are held take it; where it is not, the mean."""
    held, bias = role_plan(dense=DENSE), table(S)
    said = replace(held, dense_bias=torch.tensor([7.5]))
    plan(output=said).save(tmp_path / "plan")
    for read in (plan(output=said), Plan.load(tmp_path / "plan")):
        made, other = read.apply(bias, "output"), held.apply(bias)
        assert made[2] == 7.5
        assert other[2] == pytest.approx(float(bias[USED].mean()))
        assert torch.equal(made[[0, 1, 3, 4]], other[[0, 1, 3, 4]])
        assert torch.equal(read.apply(table(S, D), "output")[2], torch.tensor(DENSE[2]))
    with pytest.raises(ValueError, match="2 biases do not go to 1 dense rows"):
        replace(held, dense_bias=torch.ones(2))


def test_a_bias_is_applied_like_a_column() -> None:
    bias = table(S)
    result = plan().apply(bias, "output")
    assert result.shape == (len(WEIGHTS),)
    torch.testing.assert_close(result, product(bias[:, None])[:, 0])


def test_dense_rows_are_stored_as_they_are_and_say_nothing_of_a_bias() -> None:
    made = plan(input=role_plan(dense=DENSE))
    rows, bias = table(S, D, dtype=torch.bfloat16), table(S)
    assert made.apply(rows)[2].tolist() == DENSE[2]
    assert torch.equal(made.apply(rows)[0], rows[3])
    assert made.apply(bias)[2] == pytest.approx(float(bias[USED].mean()))


def test_only_sparse_plans_apply_to_another_width() -> None:
    wide = table(S, 2 * D)
    torch.testing.assert_close(plan().apply(wide), product(wide))
    with pytest.raises(
        ValueError, match="rows of width 4, the table has width 8; only sparse plans"
    ):
        plan(input=role_plan(dense=DENSE)).apply(wide)


@pytest.mark.parametrize("shape", [(S - 1, D), (S + 1, D), (S + 1,)])
def test_a_table_of_another_vocabulary_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"for tables of {S} rows, this one has {shape[0]}"):
        plan().apply(torch.zeros(shape))


def test_each_role_has_its_rows() -> None:
    swapped = role_plan(WEIGHTS[::-1])
    made, rows = plan(output=swapped), table(S, D)
    torch.testing.assert_close(made.apply(rows, "output"), product(rows).flip(0))
    torch.testing.assert_close(made.apply(rows, "input"), product(rows))
    assert torch.equal(plan().apply(rows, "output"), plan().apply(rows, "input"))


def test_explain_lists_the_largest_weights_first() -> None:
    assert plan().explain(2) == ("missing", [(5, -1.5), (2, 0.5), (0, 0.25)])
    assert plan().explain(1) == ("unmatched", [(MEAN, 1.0)])
    assert plan().explain(3, "output") == ("override", [])
    assert plan(output=role_plan(WEIGHTS[::-1])).explain(4, "output") == ("missing", [(3, 1.0)])
    assert plan(input=role_plan(dense=DENSE)).explain(2) == ("missing, held as it is", [])


@pytest.mark.parametrize("number", [-1, len(WEIGHTS)])
def test_explain_knows_its_ids(number: int) -> None:
    with pytest.raises(ValueError, match=f"id {number} is not one of the plan's 5 rows"):
        plan().explain(number)


INPUT = role_plan()
PLANS = {
    "tied": plan(),
    "untied": plan(output=role_plan(WEIGHTS[::-1])),
    "untied, one for both": plan(input=INPUT, output=INPUT),
    "dense": plan(output=role_plan(dense=DENSE)),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_saved_plan_is_the_same(kind: str, tmp_path: Path) -> None:
    made, rows = PLANS[kind], table(S, D)
    made.save(tmp_path / "a.plan")
    made.save(str(tmp_path / "b.plan"))
    loaded = Plan.load(str(tmp_path / "a.plan"))
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()
    assert loaded.roles.keys() == made.roles.keys()
    for role in made.roles:
        assert torch.equal(loaded.apply(rows, role), made.apply(rows, role))
        assert torch.equal(loaded.apply(rows[:, 0], role), made.apply(rows[:, 0], role))
    assert torch.equal(loaded.kind, made.kind)
    assert (loaded.about, loaded.rows, loaded.base_rows) == (made.about, len(WEIGHTS), S)
    one = kind == "untied, one for both"
    assert (loaded.roles.get("output") is loaded.roles["input"]) == one
    loaded.save(tmp_path / "c.plan")
    assert (tmp_path / "c.plan").read_bytes() == (tmp_path / "a.plan").read_bytes()


def test_one_plan_for_both_roles_is_written_once(tmp_path: Path) -> None:
    PLANS["untied, one for both"].save(tmp_path / "plan")
    assert not [name for name in load_file(tmp_path / "plan") if name.startswith("output")]


def test_files_that_are_no_plan_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    with pytest.raises(CheckpointError, match=r"plan is not a plan .*tokswap\.plan of an output"):
        Plan.load(path)
    with pytest.raises(CheckpointError, match="is not a plan"):
        Plan.load(tmp_path)  # a folder
    path.write_text("not safetensors at all")
    with pytest.raises(CheckpointError, match="is not a plan"):
        Plan.load(path)
    plan().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is not a plan"):
        Plan.load(path)
    save_file({"model.embed_tokens.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match="is not a plan"):
        Plan.load(path)


ABOUT = {"format": 2, "base_rows": S, "same": False}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {**ABOUT, "format": 99},
            "is a plan of format 99, and this tokswap reads format 2; make it again",
        ),
        ({**ABOUT, "base_rows": S - 1}, "is not a plan"),
        ({"format": 2, "same": False}, "is not a plan .'base_rows'"),
        ([], "is not a plan"),
        (3, "is not a plan"),
    ],
)
def test_plans_that_do_not_fit_their_notes_are_refused(about, message, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    plan().save(path)
    save_file(load_file(path), path, {"tokswap_plan": json.dumps(about)})
    with pytest.raises(CheckpointError, match=message):
        Plan.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", torch.zeros(4, dtype=torch.uint8)),
        ("input.dense_ids", torch.tensor([5])),
        ("input.weights.indices", None),
        ("input.weights.indptr", None),
    ],
)
def test_plans_with_damaged_parts_are_refused(name: str, value, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    plan().save(path)
    tensors = load_file(path) | {name: value}
    notes = {"tokswap_plan": json.dumps(ABOUT)}
    save_file({name: part for name, part in tensors.items() if part is not None}, path, notes)
    with pytest.raises(CheckpointError, match="is not a plan"):
        Plan.load(path)


def test_a_plan_needs_roles_of_one_size() -> None:
    with pytest.raises(ValueError, match="do not make a plan of 5 rows"):
        plan(output=role_plan(WEIGHTS[:3]))
    with pytest.raises(ValueError, match="do not make a plan"):
        Plan({"output": role_plan()}, torch.zeros(5, dtype=torch.uint8))


@pytest.mark.parametrize("dense", [{}, DENSE], ids=["sparse", "dense"])
def test_some_rows_are_those_of_the_whole(dense: dict[int, list[float]]) -> None:
    part = role_plan(dense=dense)
    for ids in ([4, 2, 0], [3], [1, 2], [0, 2], []):
        some = part.take(torch.tensor(ids, dtype=torch.int64))
        for rows in (table(S, D), table(S)):
            assert torch.equal(some.apply(rows), part.apply(rows)[ids])
    with pytest.raises(ValueError, match="ids run from 5 to 5 for 5 rows"):
        part.take(torch.tensor([5]))
