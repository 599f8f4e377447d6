"""What is said of untrained rows: in the record, in a line, and by inspect."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.inspection import inspect
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant
from tokswap.plan import Plan
from tokswap.report.untrained import untrained, untrained_line
from tokswap.solvers.untrained import untrained_rows
from tokswap.vocabulary.align import align

BASE, DONOR = "tiny-mistral", "tiny-llama"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Transplant:
    out = tmp_path_factory.mktemp("made") / "out"
    return transplant(
        base_model=BASE, donor=DONOR, parameters={"k": 2}, out=str(out), plan_only=True
    )


def test_the_record_counts_what_the_detector_finds(made: Transplant) -> None:
    said = json.loads((made.folder / "tokswap.json").read_text())["untrained"]
    assert list(said) == ["donor output", "donor input", "base output", "base input"]
    tables = load_file(BUNDLED_FOLDER / BASE / "model.safetensors")
    for role, name in (("input", "model.embed_tokens.weight"), ("output", "lm_head.weight")):
        found = untrained_rows(tables[name]).nonzero()[:, 0].tolist()
        shown = [Checkpoint.open(BASE).vocabulary.show(number) for number in found[:8]]
        expected = {"count": len(found), "rows": 4096, "first": shown}
        assert said[f"base {role}"] == expected
    assert said["donor input"] == said["donor output"]  # one table


def test_untrained_tokens_are_no_anchors(made: Transplant) -> None:
    base, donor = (Checkpoint.open(name).vocabulary for name in (BASE, DONOR))
    alignment = align(base, donor, base_rows=len(base), rows=len(donor))
    plan = Plan.load(made.folder / "tokswap.plan")
    tables = load_file(BUNDLED_FOLDER / BASE / "model.safetensors")
    for role, name in (("input", "model.embed_tokens.weight"), ("output", "lm_head.weight")):
        bad = set(untrained_rows(tables[name]).nonzero()[:, 0].tolist())
        solved = [n for n in alignment.missing.tolist() if len(plan.explain(n, role)[1]) > 1]
        assert len(solved) > 1000
        used = {column for n in solved for column, _ in plan.explain(n, role)[1]}
        assert not used & bad


def test_the_user_is_told_in_one_line(made: Transplant) -> None:
    (line,) = [line for line in made.warnings if "untrained" in line]
    count = made.record["untrained"]["base input"]["count"]
    assert f"{count:,} of 4,096 base input rows (<unk>, " in line
    assert inspect(plan=made.folder).to_dict()["untrained"] == made.record["untrained"]


def test_nothing_is_said_where_nothing_was_found() -> None:
    base, donor = (Checkpoint.open(name).vocabulary for name in (BASE, DONOR))
    alignment = align(base, donor, base_rows=len(base), rows=len(donor) + 3)
    assert untrained_line(untrained({}, alignment)) is None
    found = torch.zeros(len(donor) + 3, dtype=torch.bool)
    found[-2] = True  # padding
    said = untrained({("donor", "input", 4.0): found}, alignment)
    assert said == {"donor input": {"count": 0, "rows": len(donor), "first": []}}
    assert untrained_line(said) is None
    found[0] = True
    searches = {("donor", "input", 4.0): found, ("donor", "input", 8.0): found.roll(2)}
    assert untrained(searches, alignment)["donor input"]["count"] == 2


def test_the_published_variant_leaves_nothing_out(tmp_path: Path) -> None:
    result = transplant(
        base_model=BASE,
        donor=DONOR,
        parameters={"k": 2, "outliers": None},
        out=str(tmp_path / "out"),
        plan_only=True,
    )
    assert result.record["untrained"] == {}
    assert not any("untrained" in line for line in result.warnings)
