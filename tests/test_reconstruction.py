"""Anchors that are filled from the others: planted answers, what is held out, what may be used."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import MethodError
from tokswap.methods import METHODS, Answer, Method, Problem, Role, WithAverages, needing_donor
from tokswap.methods.pieces import Pieces
from tokswap.planning import Tables
from tokswap.reconstruction import METHOD, Reconstruction, reconstruct, without
from tokswap.solvers.sparse import SparseRows
from tokswap.vocabulary.align import Alignment, Kind, align
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

WIDTH = 16
COSINE, CENTERED, ERROR = range(3)
EXACT = {"k": 1, "center": False, "outliers": None}


def random(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def tables(base: Tensor, donor: Tensor | None, **said: Any) -> Tables:
    load = None if donor is None else (lambda _role: donor)
    return Tables(lambda _role: base, load, tied=True, **said)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-llama", "tiny-mistral"))
    return align(base, donor, base_rows=len(base), rows=len(donor))


@pytest.fixture(scope="module")
def structured(alignment: Alignment) -> Tensor:
    """Donor rows that are each a multiple of one of a few directions."""
    directions = random(8, WIDTH, 0)
    lengths = 0.5 + random(alignment.rows, 1, 1).abs()
    return lengths * directions[torch.arange(alignment.rows) % 8]


def turned(alignment: Alignment, donor: Tensor) -> Tensor:
    """Base rows that are the donor's in another frame."""
    frame = torch.linalg.qr(random(donor.shape[1], donor.shape[1], 2)).Q
    base = random(alignment.base_rows, donor.shape[1], 3)
    shared = alignment.ids(Kind.SHARED)
    base[torch.from_numpy(alignment.source[shared])] = donor[torch.from_numpy(shared)] @ frame
    return base


class Spy(METHODS["omp"]):  # type: ignore[misc] # a real method, which notes what it is asked
    seen: ClassVar[list[tuple[Problem, WithAverages]]] = []

    def fill(self, problem: Problem) -> WithAverages:
        answer: WithAverages = super().fill(problem)
        self.seen.append((problem, answer))
        return answer


class Linear(Method):
    """A linear map between the spaces, fitted on the anchors: rows without weights."""

    summary: ClassVar[str] = "for tests"
    paper: ClassVar[str] = "none"

    @property
    def needs_donor(self) -> bool:
        return True

    def fill(self, problem: Problem) -> Tensor:
        assert problem.donor_table is not None
        donor, anchors = problem.donor_table(), torch.from_numpy(problem.alignment.anchors)
        base = problem.base_table()[torch.from_numpy(problem.alignment.source[anchors])]
        return donor[problem.ids] @ torch.linalg.lstsq(donor[anchors], base).solution


class ByPieces(Linear):
    def fill(self, problem: Problem) -> SparseRows:
        return Pieces().fill(problem)


@pytest.fixture(autouse=True)
def fresh_spy() -> None:
    Spy.seen.clear()


def means(figures: Tensor) -> list[float]:
    return [float(value) for value in figures.mean(dim=0)]


def test_what_is_the_same_in_another_frame_carries_over_whole(
    alignment: Alignment, structured: Tensor
) -> None:
    both = tables(turned(alignment, structured), structured)
    found = reconstruct(alignment, METHODS["omp"](**EXACT), both, "input", count=64)
    for side in (found.donor, found.base):
        torch.testing.assert_close(
            side[METHOD], torch.tensor([[1.0, 1.0, 0.0]]).double().expand(64, 3), atol=1e-5, rtol=0
        )
        assert means(side["mean_row"])[CENTERED] == pytest.approx(0, abs=1e-6)
        assert abs(means(side["other_anchor"])[CENTERED]) < 0.3  # one in eight is along the same


def test_what_is_unrelated_carries_nothing_over(alignment: Alignment, structured: Tensor) -> None:
    both = tables(random(alignment.base_rows, WIDTH, 4) + 1, structured)
    found = reconstruct(alignment, METHODS["omp"](**EXACT), both, "input", count=200)
    assert means(found.donor[METHOD])[CENTERED] == pytest.approx(1)
    for name in (METHOD, "other_anchor", "mean_row"):
        assert abs(means(found.base[name])[CENTERED]) < 0.06
    # The common part flatters all of them.
    assert means(found.base["mean_row"])[COSINE] > 0.6
    assert means(found.base["other_anchor"])[COSINE] > 0.4


def test_rows_without_weights_have_figures_in_the_base_alone(alignment: Alignment) -> None:
    donor = random(alignment.rows, WIDTH, 5)
    found = reconstruct(
        alignment, Linear(), tables(turned(alignment, donor), donor), "input", count=20
    )
    assert means(found.base[METHOD])[CENTERED] == pytest.approx(1, abs=1e-5)
    assert means(found.base[METHOD])[ERROR] < 1e-5
    assert bool(found.donor[METHOD].isnan().all())
    assert not bool(found.donor["mean_row"].isnan().any())


def test_no_held_out_anchor_is_used(alignment: Alignment) -> None:
    both = tables(random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7))
    kinds, sources = alignment.kind.copy(), alignment.source.copy()
    found = reconstruct(alignment, Spy(k=4), both, "input", count=300)
    assert found.folds == len(Spy.seen) == 2
    for problem, answer in Spy.seen:
        held = np.array(problem.ids)
        assert len(held) == 150
        assert not np.isin(held, problem.alignment.anchors).any()
        assert (problem.alignment.kind[held] == Kind.MISSING).all()
        assert len(problem.alignment.anchors) == len(alignment.anchors) - len(held)
        used = torch.cat([answer.weights.indices, answer.averages.indices]).numpy()
        assert not np.isin(alignment.source[held], used).any()
        assert np.isin(used[used < alignment.base_rows], sources[alignment.anchors]).all()
    assert (alignment.kind == kinds).all()
    assert (alignment.source == sources).all()


@pytest.mark.parametrize("name", needing_donor())
def test_no_method_sees_the_base_rows_of_held_out_anchors(name: str, alignment: Alignment) -> None:
    held = alignment.anchors[::50].tolist()
    reduced = without(alignment, held)
    base, donor = random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7)
    other = base.clone()
    other[alignment.source[held]] += 100
    fields = METHODS[name].model_fields
    few: dict[str, Any] = {"outliers": None, "k": 4}
    settings = {key: value for key, value in few.items() if key in fields}
    if name == "mix":
        settings = {"of": [{"method": "omp", "parameters": few}, {"method": "ridge"}]}
    answers = [
        METHODS[name](**settings).fill(
            tables(table, donor).problem("input", reduced, held, seed=0, device="cpu")
        )
        for table in (base, other)
    ]
    one, other_one = (Answer.of(answer, alignment.base_rows) for answer in answers)
    assert torch.equal(one.rows, other_one.rows)
    for answer in (one, other_one):
        for part in (answer.weights, answer.averages):
            assert not np.isin(alignment.source[held], part.indices.numpy()).any()


def test_all_anchors_are_held_out_once_a_tenth_at_a_time(alignment: Alignment) -> None:
    both = tables(random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7))
    found = reconstruct(alignment, Spy(k=1, outliers=None), both, "input", count=None)
    assert sorted(found.ids) == alignment.anchors.tolist()
    assert found.anchors == len(alignment.anchors)
    assert found.folds == len(Spy.seen) in (10, 11)
    assert max(len(problem.ids) for problem, _ in Spy.seen) <= len(alignment.anchors) / 10
    assert len(found.base[METHOD]) == len(found.donor[METHOD]) == len(found.ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_figures_are_of_the_rows_that_the_method_gives(
    alignment: Alignment, dtype: torch.dtype
) -> None:
    base, donor = random(alignment.base_rows, 300, 6) + 1, random(alignment.rows, 12, 7)
    base, donor = base.to(dtype), donor.to(dtype)
    found = reconstruct(alignment, Spy(k=3), tables(base, donor), "input", count=5)
    base, donor = base.float(), donor.float()  # nothing is rounded to the tables' type
    ((problem, answer),) = Spy.seen
    assert problem.ids == found.ids
    averaged = set(answer.averages.indices.tolist())
    fit = [n for n in problem.alignment.anchors if alignment.source[n] in averaged]
    source = alignment.source[fit]
    by_column = {int(base_id): int(number) for number, base_id in zip(fit, source, strict=True)}
    for place, number in enumerate(found.ids):
        in_base, in_donor = torch.zeros(300), torch.zeros(12)
        for column, weight in answer.weights.row(place):
            average = column > alignment.base_rows
            ids = source if average else [column]
            in_base += weight * base[ids].mean(dim=0)
            in_donor += weight * donor[fit if average else [by_column[column]]].mean(dim=0)
        true_base, true_donor = base[alignment.source[number]], donor[number]
        for made, true, figures in (
            (in_base, true_base, found.base),
            (in_donor, true_donor, found.donor),
        ):
            cosine = torch.cosine_similarity(made, true, dim=0)
            assert float(figures[METHOD][place, COSINE]) == pytest.approx(float(cosine), abs=1e-5)
            error = (made - true).norm() / true.norm()
            assert float(figures[METHOD][place, ERROR]) == pytest.approx(float(error), abs=1e-5)


def test_the_pieces_of_a_held_out_token_do_not_give_it_away(alignment: Alignment) -> None:
    both = tables(random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7))
    found = reconstruct(alignment, ByPieces(), both, "input", count=64)
    assert abs(means(found.base[METHOD])[CENTERED]) < 0.1
    # What they are given instead, the mean of the base's rows, is that of the anchors in the donor.
    torch.testing.assert_close(found.donor[METHOD], found.donor["mean_row"], atol=1e-5, rtol=0)


def test_rows_of_base_tokens_that_no_anchor_stands_for_have_no_figure_in_the_donor(
    alignment: Alignment,
) -> None:
    shared = set(alignment.source[alignment.ids(Kind.SHARED)].tolist())
    alone = next(n for n in range(alignment.base_rows) if n not in shared)
    anchor = int(alignment.source[alignment.anchors[0]])

    class Own(Linear):
        def fill(self, problem: Problem) -> WithAverages:
            rows = [[alone], [anchor, problem.columns], [anchor, problem.columns + 1]]
            weights = [[1.0] * len(row) for row in rows]
            return WithAverages(
                SparseRows.from_lists(rows, weights, problem.columns + 2),
                SparseRows.from_lists([[anchor], [alone]], [[1.0]] * 2, alignment.base_rows),
            )

    both = tables(random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7))
    found = reconstruct(alignment, Own(), both, "input", count=3)
    assert found.donor[METHOD].isnan().any(dim=1).tolist() == [True, False, True]
    assert not bool(found.base[METHOD].isnan().any())


def test_tokens_without_a_row_or_with_a_zero_one_are_not_held_out(alignment: Alignment) -> None:
    anchors = alignment.anchors
    base, donor = random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7)
    base[alignment.source[anchors[::2]]] = 0
    donor[anchors[1::4]] = 0
    method = METHODS["omp"](k=2, outliers=None)
    found = reconstruct(alignment, method, tables(base, donor[:-500]), "input", count=None)
    there = [int(n) for n in anchors if n < len(donor) - 500]
    assert sorted(found.ids) == [
        n for n in there if base[alignment.source[n]].any() and donor[n].any()
    ]
    assert all(bool(part.isfinite().all()) for part in found.base.values())


def vocabulary(folder: Path, name: str, tokens: Sequence[str]) -> Vocabulary:
    path = folder / f"{name}.json"
    table = {token: number for number, token in enumerate(tokens)}
    path.write_text(Tokenizer(models.BPE(table, [])).to_str(), encoding="utf-8")
    return load_vocabulary({"tokenizer.json": path}, name=name)


WORDS = [f"w{number}" for number in range(60)]


def of_words(folder: Path, order: Sequence[int], **said: Any) -> tuple[Reconstruction, list[str]]:
    """Hold out words of a donor that lists them in some order, each with its own row."""
    base = vocabulary(folder, "base", WORDS)
    donor = vocabulary(folder, "donor", [WORDS[place] for place in order])
    aligned = align(base, donor, base_rows=60, rows=60)
    both = tables(random(60, 8, 1), random(60, 12, 2)[list(order)])
    settings = {"count": 6, "seed": 0, "k": 3} | said
    method = METHODS["omp"](k=settings.pop("k"), outliers=None)
    found = reconstruct(aligned, method, both, "input", **settings)
    return found, [donor.strings[number] for number in found.ids]


def test_the_choice_goes_by_seed_and_token_alone(tmp_path: Path) -> None:
    found, words = of_words(tmp_path, range(60))
    again, same = of_words(tmp_path, range(60))
    backwards, others = of_words(tmp_path, range(59, -1, -1))
    assert words == same == others
    assert found.folds == 1
    for side in ("base", "donor"):
        for name, figures in getattr(found, side).items():
            assert torch.equal(figures, getattr(again, side)[name])
            torch.testing.assert_close(figures, getattr(backwards, side)[name], atol=1e-5, rtol=0)
    assert of_words(tmp_path, range(60), k=1)[1] == words
    assert of_words(tmp_path, range(60), count=3)[1] == words[:3]
    assert set(of_words(tmp_path, range(60), seed=1)[1]) != set(words)
    assert len(set(of_words(tmp_path, range(60), count=None)[1])) == 60
    assert len(of_words(tmp_path, range(60), count=1000)[1]) == 60


def test_too_few_anchors_are_refused(tmp_path: Path, alignment: Alignment) -> None:
    base, donor = vocabulary(tmp_path, "a", ["one", "two"]), vocabulary(tmp_path, "b", ["two", "x"])
    few = align(base, donor, base_rows=2, rows=2)
    both = tables(random(2, 4, 1), random(2, 4, 2))
    with pytest.raises(MethodError, match="'b' shares 1 tokens with 'a' that are fit to be anch"):
        reconstruct(few, METHODS["omp"](k=1, outliers=None), both, "input", count=5)
    both = tables(random(2, 4, 1), None)
    with pytest.raises(MethodError, match="'b' is a bare tokenizer"):
        reconstruct(few, METHODS["omp"](k=1), both, "input", count=5)


def test_untrained_rows_are_looked_for_once(
    alignment: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokswap.solvers import untrained

    asked: list[int] = []
    real = untrained.untrained_rows

    def counted(table: Tensor, **said: Any) -> Tensor:
        asked.append(table.shape[1])
        return real(table, **said)

    monkeypatch.setattr(untrained, "untrained_rows", counted)
    both = tables(random(alignment.base_rows, 8, 6), random(alignment.rows, 12, 7))
    role: Role = "input"
    reconstruct(alignment, METHODS["omp"](k=1), both, role, count=600)
    reconstruct(alignment, METHODS["omp"](k=2), both, role, count=10)
    assert sorted(asked) == [8, 12]
    reconstruct(alignment, METHODS["omp"](k=2), replace(both, untrained={}), role, count=10)
    assert sorted(asked) == [8, 8, 12, 12]
