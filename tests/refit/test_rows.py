"""Rows held in a plan: theirs as they are given, all others bit for bit as they were."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import Family
from tests.refit.made import Bench
from tokswap.checkpoint.tables import load_table
from tokswap.errors import RefitError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import Pair, open_pair
from tokswap.pipeline import plan_for
from tokswap.plan import Plan
from tokswap.recipe import make_recipe
from tokswap.refit.rows import bias_of, blended, check_tables, rows_of, with_rows

SOME = slice(3, 400, 7)


def family(folder: Path, model_type: str, class_name: str, method: str) -> tuple[Pair, Plan]:
    """A small random base of a family with tiny-llama's tokenizer, and a plan for it."""
    Family(model_type, class_name).build().save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, folder)
    said = {"base_model": str(folder), "donor": "tiny-mistral", "method": method}
    recipe = make_recipe(said)
    pair = open_pair(recipe)
    return pair, plan_for(pair, recipe)


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Plan]:
    return family(tmp_path_factory.mktemp("phi") / "phi", "phi", "PhiForCausalLM", "mean")


def missing(pair: Pair) -> Tensor:
    return torch.from_numpy(pair.alignment.missing)


def test_given_rows_are_held_and_others_stay(untied: Bench) -> None:
    table = load_table(untied.pair.base, untied.pair.layout.output).float()
    plan = untied.plan.roles["output"]
    before = plan.apply(table)
    ids = missing(untied.pair)[SOME]
    rows = torch.randn(len(ids), table.shape[1])
    made = with_rows(plan, ids, rows, None)
    after = made.apply(table)
    rest = torch.ones(len(after), dtype=torch.bool)
    rest[ids] = False
    assert torch.equal(after[ids], rows)
    assert torch.equal(after[rest], before[rest])
    assert torch.equal(rows_of(made, ids, table), rows)
    # Some of them again, and some more: the last word counts.
    more = missing(untied.pair)[3:60]
    again = with_rows(made, more, torch.zeros(len(more), table.shape[1]), None).apply(table)
    rest[more] = False
    both = torch.isin(ids, more)
    assert bool((again[more] == 0).all())
    assert torch.equal(again[ids[~both]], rows[~both])
    assert torch.equal(again[rest], before[rest])


def test_entries_of_a_bias_stay(biased: tuple[Pair, Plan]) -> None:
    pair, plan = biased
    before = bias_of(pair, plan)
    assert before is not None
    assert len(set(before.tolist())) > 100
    ids = missing(pair)[SOME]
    rows = torch.randn(len(ids), 32)
    held = with_rows(plan.roles["output"], ids, rows, before)
    other = Plan({**plan.roles, "output": held}, plan.kind)
    after = bias_of(pair, other)
    assert after is not None
    assert torch.equal(after, before)
    again = with_rows(held, missing(pair)[:20], torch.zeros(20, 32), after)
    assert torch.equal(bias_of(pair, Plan({**plan.roles, "output": again}, plan.kind)), before)  # type: ignore[arg-type]
    # What reads some rows of it (embed, or another refit) finds them.
    table = load_table(pair.base, pair.layout.output).float()
    some = missing(pair)[:50].flip(0)
    assert torch.equal(rows_of(held, some, table), held.apply(table)[some])
    bias: Any = next(t.name for t in pair.layout.tensors if t.name.endswith("bias"))
    assert torch.equal(held.take(some).apply(pair.base.load(bias).float()), before[some])


def test_a_base_without_a_bias_has_none(untied: Bench) -> None:
    assert bias_of(untied.pair, untied.plan) is None


def test_rows_for_two_tables_are_refused(tmp_path: Path, untied: Bench, tied: Bench) -> None:
    for bench in (untied, tied):
        check_tables(bench.pair, {"input": "a", "output": "b"})
    pair, _ = family(tmp_path / "gemma", "gemma3n_text", "Gemma3nForCausalLM", "mean")
    check_tables(pair, {})
    said = r"gemma has 2 tables of input rows \(.*per_layer.*\), and a refit fits the rows of one; "
    with pytest.raises(RefitError, match=said + "leave out to match the rows"):
        check_tables(pair, {"input": "match the rows"})


def test_blended_rows_hold_their_share_of_the_last_piece(untied: Bench) -> None:
    pair, plan = untied.pair, untied.plan
    table = load_table(pair.base, pair.layout.input).float()
    ids = missing(pair)
    some, none = ids[5:300:9], ids[6:300:9]
    shares = dict.fromkeys(some.tolist(), 0.25) | dict.fromkeys(none.tolist(), 0.0)
    found = blended(plan, pair.alignment, shares)
    before, after = plan.apply(table), found.apply(table)
    last = torch.stack([table[pair.alignment.pieces[number][-1]] for number in some.tolist()])
    assert torch.allclose(after[some], 0.75 * before[some] + 0.25 * last, atol=1e-6)
    rest = torch.ones(len(after), dtype=torch.bool)
    rest[some] = False
    assert torch.equal(after[rest], before[rest])
    assert torch.equal(found.apply(table, "output"), plan.apply(table, "output"))
    whole = blended(plan, pair.alignment, dict.fromkeys(some.tolist(), 1.0)).apply(table)
    assert torch.equal(whole[some], last)


def test_what_is_held_or_has_no_pieces_is_not_blended(untied: Bench) -> None:
    pair, plan = untied.pair, untied.plan
    table = load_table(pair.base, pair.layout.input).float()
    ids = missing(pair)[:10]
    rows = torch.randn(10, table.shape[1])
    held = Plan({**plan.roles, "input": with_rows(plan.roles["input"], ids, rows, None)}, plan.kind)
    shares = dict.fromkeys(ids.tolist(), 1.0) | {0: 1.0}  # a special token has no pieces
    assert torch.equal(blended(held, pair.alignment, shares).apply(table), held.apply(table))
