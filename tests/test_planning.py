"""Making a plan: which rows are copied, which averaged, which filled, and what is solved once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import MethodError
from tokswap.methods import METHODS, Method, Problem, Role, WithAverages
from tokswap.plan import Plan
from tokswap.planning import Tables, make_plan
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment, Kind, align

D, E = 16, 24
PADDING = 7
"""Donor rows without a token, three more than the base has."""


def table(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).bfloat16()


def aligned(overrides: Mapping[str, list[str]] | None = None) -> Alignment:
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-llama", "tiny-mistral"))
    return align(
        base,
        donor,
        base_rows=len(base) + PADDING - 3,
        rows=len(donor) + PADDING,
        overrides={
            donor.find(token): [base.find(word) for word in words]
            for token, words in (overrides or {}).items()
        },
    )


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    return aligned()


class Loader:
    """Tables that note which were asked for."""

    def __init__(self, alignment: Alignment) -> None:
        self.asked: list[tuple[str, str]] = []
        self.rows = {
            ("base", "input"): table(alignment.base_rows, D, 1),
            ("base", "output"): table(alignment.base_rows, D, 2),
            ("donor", "input"): table(alignment.rows, E, 3),
            ("donor", "output"): table(alignment.rows, E, 4),
        }

    def base(self, role: Role) -> Tensor:
        self.asked.append(("base", role))
        return self.rows["base", role]

    def donor(self, role: Role) -> Tensor:
        self.asked.append(("donor", role))
        return self.rows["donor", role]

    def tables(self, *, tied: bool = False, donor_tied: bool = False) -> Tables:
        if donor_tied:
            self.rows["donor", "output"] = self.rows["donor", "input"]
        return Tables(self.base, self.donor, tied=tied, donor_tied=donor_tied)


@pytest.fixture
def loader(alignment: Alignment) -> Loader:
    return Loader(alignment)


class Counting(Method):
    """The mean, noting the roles that it was asked for."""

    summary: ClassVar[str] = "for tests"
    paper: ClassVar[str] = "none"
    asked: ClassVar[list[Role]] = []

    share: float = 1.0

    def fill(self, problem: Problem) -> SparseRows:
        self.asked.append(problem.role)
        rows = [[problem.mean_column]] * len(problem.ids)
        return SparseRows.from_lists(rows, [[self.share]] * len(problem.ids), problem.columns)


class NeedsDonor(Counting):
    @property
    def needs_donor(self) -> bool:
        return True


class NeedsBase(NeedsDonor):
    @property
    def needs_base(self) -> bool:
        return True


class ByRole(Counting):
    @property
    def differs_by_role(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fresh_count() -> None:
    Counting.asked.clear()


def both(method: Method) -> dict[Role, Method]:
    return {"input": method, "output": method}


def mean(plan_table: Tensor, alignment: Alignment) -> Tensor:
    return plan_table[alignment.used_base_ids].float().mean(dim=0)


def filled_alike(plan: Plan) -> bool:
    """Whether the filled rows of both roles are one answer; copied ones differ in the head."""
    ids = (plan.kind == Kind.MISSING).nonzero()[:, 0]
    parts = [plan.roles[role].weights.take(ids) for role in ("input", "output")]
    return torch.equal(parts[0].indices, parts[1].indices) and torch.equal(
        parts[0].weights, parts[1].weights
    )


def one_row(plan: Plan, number: int) -> list[tuple[int, float]]:
    return plan.explain(number)[1]


def test_copied_rows_are_the_bases_bit_for_bit(alignment: Alignment, loader: Loader) -> None:
    plan = make_plan(alignment, both(METHODS["pieces"]()), loader.tables())
    copied = alignment.ids(Kind.SHARED, Kind.SPECIAL)
    assert {Kind.SHARED, Kind.SPECIAL} <= {Kind(kind) for kind in alignment.kind[copied]}
    for role, left_out in (("input", []), ("output", alignment.doubles)):
        rows, ids = loader.rows["base", role], copied[~np.isin(copied, left_out)]
        assert torch.equal(plan.apply(rows, role)[ids], rows[alignment.source[ids]])


def test_a_row_of_the_head_stands_there_once(alignment: Alignment, loader: Loader) -> None:
    """``<0x41>`` is never written where there is an ``A``, so it gets none of its probability."""
    plan = make_plan(alignment, both(METHODS["pieces"]()), loader.tables())
    doubles, donor = alignment.doubles, alignment.donor
    assert len(doubles)
    assert all(donor.strings[number].startswith("<0x") for number in doubles)
    rows = loader.rows["base", "output"]
    wanted = mean(rows, alignment).expand(len(doubles), -1)
    assert torch.allclose(plan.apply(rows, "output")[doubles].float(), wanted, atol=1e-2)
    copied = plan.copied("output")[alignment.ids(Kind.SHARED)]
    copied = copied[copied >= 0]
    assert len(copied.unique()) == len(copied)


def test_a_base_with_its_own_tokenizer_keeps_doubled_rows(alignment: Alignment) -> None:
    donor = alignment.donor
    own = align(donor, donor, base_rows=len(donor), rows=len(donor))
    assert not len(own.doubles)


def test_a_special_token_without_counterpart_is_the_mean_of_used_rows(
    alignment: Alignment, loader: Loader
) -> None:
    plan = make_plan(alignment, both(METHODS["zero"]()), loader.tables())
    (number,) = alignment.ids(Kind.UNMATCHED)
    rows = loader.rows["base", "input"].float()
    rows[alignment.base.special_ids["<|pad|>"]] = 1e6  # not a used row
    torch.testing.assert_close(plan.apply(rows)[number], mean(rows, alignment))


def test_ids_without_a_token_are_the_mean_of_used_rows(
    alignment: Alignment, loader: Loader
) -> None:
    plan = make_plan(alignment, both(METHODS["zero"]()), loader.tables())
    unused = alignment.ids(Kind.UNUSED)
    assert len(unused) == PADDING
    assert [one_row(plan, number) for number in unused] == [[(alignment.base_rows, 1.0)]] * PADDING


def test_missing_rows_are_the_methods(alignment: Alignment, loader: Loader) -> None:
    method = METHODS["omp"](k=2)
    # Fewer ids to solve for, and fewer anchors: the rest is called unused here.
    some = replace(alignment, kind=alignment.kind.copy())
    some.kind[alignment.missing[20:]] = Kind.UNUSED
    tables = loader.tables()
    plan = make_plan(some, both(method), tables)
    for role in ("input", "output"):
        asked = tables.problem(role, some, [int(n) for n in some.missing], seed=0, device="cpu")
        filled = method.fill(asked)
        for place, number in enumerate(some.missing):
            weights = filled.weights if isinstance(filled, WithAverages) else filled
            assert plan.roles[role].weights.row(int(number)) == weights.row(place)


@pytest.mark.parametrize("method", ["pieces", "normal", "zero"])
def test_overrides_have_the_last_word(method: str) -> None:
    said = {" return": ["("], "▁the": [" return", "(", " self"], "(": [], "<unk>": ["<|pad|>"]}
    alignment = aligned(said)
    loader = Loader(alignment)
    plan = make_plan(alignment, both(METHODS[method]()), loader.tables())
    base, donor = alignment.base, alignment.donor
    rows = loader.rows["base", "input"]
    result = plan.apply(rows)
    assert torch.equal(result[donor.find(" return")], rows[base.find("(")])
    assert torch.equal(result[donor.find("<unk>")], rows[base.find("<|pad|>")])
    assert not result[donor.find("(")].any()
    three = rows[[base.find(word) for word in said["▁the"]]].float().mean(dim=0)
    torch.testing.assert_close(result[donor.find("▁the")].float(), three, rtol=1e-2, atol=1e-3)
    assert all(plan.kind[donor.find(token)] == Kind.OVERRIDE for token in said)


def test_a_tied_base_is_solved_once_as_input(alignment: Alignment, loader: Loader) -> None:
    methods: dict[Role, Method] = {"input": NeedsDonor(), "output": NeedsDonor(share=0.5)}
    plan = make_plan(alignment, methods, loader.tables(tied=True))
    assert list(plan.roles) == Counting.asked == ["input"]


@pytest.mark.parametrize(
    ("methods", "solved"),
    [
        ((Counting(), Counting()), ["input"]),
        ((NeedsDonor(), NeedsDonor()), ["input", "output"]),
        ((Counting(), Counting(share=0.5)), ["input", "output"]),
    ],
)
def test_an_untied_base_is_solved_once_where_roles_cannot_differ(
    methods: tuple[Method, Method],
    solved: list[str],
    alignment: Alignment,
    loader: Loader,
) -> None:
    said: dict[Role, Method] = {"input": methods[0], "output": methods[1]}
    plan = make_plan(alignment, said, loader.tables())
    assert Counting.asked == solved
    assert filled_alike(plan) or len(solved) > 1
    number = int(alignment.missing[0])
    for role in ("input", "output"):
        share = said[role].model_dump()["share"]
        assert plan.explain(number, role)[1] == [(alignment.base_rows, share)]


@pytest.mark.parametrize(
    ("methods", "solved"),
    [
        ((NeedsDonor(), NeedsDonor()), ["input"]),
        ((NeedsBase(), NeedsBase()), ["input", "output"]),
        ((ByRole(), ByRole()), ["input", "output"]),
        ((NeedsDonor(), NeedsDonor(share=0.5)), ["input", "output"]),
    ],
)
def test_one_donor_table_is_solved_once_for_both_roles(
    methods: tuple[Method, Method], solved: list[str], alignment: Alignment, loader: Loader
) -> None:
    said: dict[Role, Method] = {"input": methods[0], "output": methods[1]}
    plan = make_plan(alignment, said, loader.tables(donor_tied=True))
    assert Counting.asked == solved
    assert filled_alike(plan) or len(solved) > 1


def test_roles_that_copy_apart_are_solved_once_too(alignment: Alignment, loader: Loader) -> None:
    special, begin = int(alignment.ids(Kind.SPECIAL)[0]), int(alignment.used_base_ids[7])
    assert alignment.source[special] != begin
    apart = replace(alignment, input_source={special: begin})
    plan = make_plan(apart, both(NeedsDonor()), loader.tables(donor_tied=True))
    assert Counting.asked == ["input"]
    assert plan.explain(special, "input")[1] == [(begin, 1.0)]
    assert plan.explain(special, "output")[1] == [(int(alignment.source[special]), 1.0)]
    number = int(alignment.missing[0])
    assert plan.explain(number, "input") == plan.explain(number, "output")


def test_what_serves_both_roles_leaves_out_what_is_untrained_in_either(
    alignment: Alignment, loader: Loader
) -> None:
    # Each target's row is half as long as one anchor's. Of four anchors one is unfit in the input
    # table, one in the output table, one in the donor, and one in none of them.
    anchors, targets = alignment.anchors[10:14], alignment.missing[:4]
    sources = alignment.source[anchors].tolist()
    tables = loader.tables(donor_tied=True)
    donor = loader.rows["donor", "input"]
    donor[targets] = donor[anchors] / 2
    loader.rows["base", "input"][sources[0]] = 0
    loader.rows["base", "output"][sources[1]] *= 1e3
    donor[anchors[2]] *= 1e3
    only, method = [int(number) for number in targets], METHODS["omp"](k=1, center=False)
    plan = make_plan(alignment, both(method), tables, only=only)
    assert filled_alike(plan)
    found = [plan.explain(number)[1][0][0] for number in only]
    assert [one == other for one, other in zip(found, sources, strict=True)] == [False] * 3 + [True]
    noted = {place[:2]: bool(rows.any()) for place, rows in tables.untrained.items()}
    assert noted == dict.fromkeys(loader.rows, True)
    # With a table of its own each role goes by its own rows.
    apart = make_plan(alignment, both(method), loader.tables(), only=only)
    ways = [apart.explain(only[0], role)[1][0][0] for role in ("input", "output")]
    assert ways[0] != sources[0] == ways[1]


def test_samples_are_drawn_for_each_role_from_its_own_table(
    alignment: Alignment, loader: Loader
) -> None:
    rows = loader.rows["base", "output"]
    rows += 100
    plan = make_plan(alignment, both(METHODS["normal"]()), loader.tables(), seed=3)
    missing = alignment.missing
    assert plan.explain(int(missing[0])) == ("missing, held as it is", [])
    filled = plan.apply(rows, "output").float()[missing]
    torch.testing.assert_close(filled.mean(), torch.tensor(100.0), rtol=0, atol=0.5)
    again = make_plan(alignment, both(METHODS["normal"]()), loader.tables(), seed=3)
    other = make_plan(alignment, both(METHODS["normal"]()), loader.tables(), seed=4)
    assert torch.equal(plan.roles["output"].dense_rows, again.roles["output"].dense_rows)
    assert not torch.equal(plan.roles["output"].dense_rows, other.roles["output"].dense_rows)


def test_tables_are_loaded_only_when_a_method_asks(alignment: Alignment, loader: Loader) -> None:
    make_plan(alignment, both(METHODS["pieces"]()), loader.tables())
    assert loader.asked == []


def test_onto_its_own_vocabulary_nothing_is_solved_and_nothing_changes() -> None:
    vocabulary = Checkpoint.open("tiny-llama").vocabulary
    rows = len(vocabulary) + PADDING
    same = align(vocabulary, vocabulary, base_rows=rows, rows=rows)
    loader = Loader(same)
    plan = make_plan(same, both(Counting()), loader.tables())
    assert Counting.asked == []
    for role in ("input", "output"):
        wanted = loader.rows["base", role]
        assert torch.equal(plan.apply(wanted, role), wanted)


def test_rows_that_are_not_finite_are_refused(alignment: Alignment, loader: Loader) -> None:
    class Broken(Counting):
        def fill(self, problem: Problem) -> Tensor:
            return torch.full((len(problem.ids), D), float("inf"))

    with pytest.raises(
        MethodError, match="input rows of 'tiny-llama' give rows that are not finite"
    ):
        make_plan(alignment, both(Broken()), loader.tables())


def test_the_plan_notes_what_it_is_told(alignment: Alignment, loader: Loader) -> None:
    about = {"method": "mean"}
    plan = make_plan(alignment, both(METHODS["mean"]()), loader.tables(), about=about)
    assert plan.about == about
    assert np.array_equal(plan.kind.numpy(), alignment.kind)
    assert (plan.rows, plan.base_rows) == (alignment.rows, alignment.base_rows)
    plan.kind[:] = 0
    assert alignment.kind.any()  # the plan has a copy
