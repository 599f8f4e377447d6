"""Fine-tunes made like a transplanted base: untrained, trained further, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint.quantised import models
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tokswap.application import apply
from tokswap.carry_out import Transplant
from tokswap.checkpoint.difference import Difference
from tokswap.errors import CheckpointError, NameUnknownError, OutputError, RecipeError, TokswapError
from tokswap.finetunes import FineTune
from tokswap.inspection import inspect
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant
from tokswap.plan import PLAN_FILE, Plan
from tokswap.preview import preview
from tokswap.recipe import make_recipe
from tokswap.report.like import far_lines
from tokswap.transplanted import open_transplanted, recorded_base
from tokswap.vocabulary.align import Kind

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
INPUT, OUTPUT, BODY = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
TABLES = {INPUT, OUTPUT}
PAIRS = {"tied": ("tiny-llama", "tiny-mistral"), "untied": ("tiny-mistral", "tiny-llama")}
Tensors = dict[str, torch.Tensor]
QUIET = {"eval": False, "verify": False}


def tensors(folder: str | Path) -> Tensors:
    found: Tensors = {}
    for file in sorted((BUNDLED_FOLDER / folder).glob("*.safetensors")):
        found |= load_file(file)
    return found


def write(source: str | Path, out: Path, given: Mapping[str, torch.Tensor]) -> Path:
    """Copy a model with other numbers."""
    shutil.copytree(BUNDLED_FOLDER / source, out)
    save_file(dict(given), out / WEIGHTS, metadata={"format": "pt"})
    return out


def taught(source: str | Path, out: Path, seed: int, *names: str) -> Path:
    """Copy a model as if some of its tensors, or all, had been trained further."""
    draw, given = torch.Generator().manual_seed(seed), tensors(source)
    for name, tensor in given.items():
        if not names or name in names:
            noise = torch.randn(tensor.shape, generator=draw) * 0.01
            given[name] = (tensor.float() + noise).to(tensor.dtype)
    return write(source, out, given)


def as_a_trainer_saves(folder: Path) -> Path:
    for name in ("tokswap.json", PLAN_FILE, "README.md"):
        (folder / name).unlink()
    return folder


def put(base: str | Path, like: str | Path, out: Path, **settings: Any) -> Transplant:
    return transplant(base_model=str(base), like=str(like), out=str(out), **QUIET | settings)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Tell whether bytes are the same: the sign of zero counts."""
    return first.dtype == second.dtype and torch.equal(*(
        tensor.contiguous().view(torch.uint8) for tensor in (first, second)
    ))  # fmt: skip


def weights_of(plan: Plan, role: str) -> np.ndarray:
    """Write a plan out as a matrix (T, S) in float64, its averages put into it."""
    part = plan.roles.get(role, plan.roles["input"])

    def dense(rows: Any) -> np.ndarray:
        matrix = np.zeros((len(rows), rows.columns))
        for number in range(len(rows)):
            for column, weight in rows.row(number):
                matrix[number, column] = weight
        return matrix

    weights, averages = dense(part.weights), dense(part.averages)
    base = weights.shape[1] - len(averages)
    return weights[:, :base] + weights[:, base:] @ averages


class Models:
    """A base, its transplant, that one trained further, and a fine-tune of the base."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.base, self.donor = PAIRS[kind]
        self.made, self.healed = folder / "made", folder / "healed"
        transplant(
            base_model=self.base, donor=self.donor, method="pieces", out=str(self.made), **QUIET
        )
        taught(self.made, self.healed, 1)
        self.tuned = taught(self.base, folder / "tuned", 2)
        self.plan = Plan.load(self.made / PLAN_FILE)

    @cached_property
    def result(self) -> Transplant:
        """The fine-tune like the base that was trained further, with the usual strength."""
        return put(self.tuned, self.healed, self.folder / "result")

    @cached_property
    def applied(self) -> Path:
        """The fine-tune with the plan alone."""
        out = self.folder / "applied"
        return apply(self.made, str(self.tuned), out=str(out), **QUIET).folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Models]:
    made: dict[str, Models] = {}

    def get(kind: str) -> Models:
        if kind not in made:
            made[kind] = Models(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


@pytest.fixture(params=PAIRS)
def each(request: pytest.FixtureRequest, both: Callable[[str], Models]) -> Models:
    return both(request.param)


@pytest.fixture
def tied(both: Callable[[str], Models]) -> Models:
    return both("tied")


def test_an_untrained_transplant_gives_what_its_plan_gives(each: Models, tmp_path: Path) -> None:
    out, applied = tmp_path / "out", each.applied
    result = put(each.tuned, each.made, out)
    files = {path.name for path in out.iterdir()}
    assert files == {path.name for path in applied.iterdir()}
    for name in files - {"README.md", "tokswap.json", PLAN_FILE}:
        assert (out / name).read_bytes() == (applied / name).read_bytes(), name
    assert (out / "tokenizer.json").read_bytes() == (each.made / "tokenizer.json").read_bytes()
    assert any("so nothing is added" in line for line in result.warnings)
    assert not any("trained further" in line for line in result.warnings)
    body = result.record["like"]["body"]
    assert (body["changed"], body["relative"]) == (0, 0.0)
    copied = each.plan.copied("input")
    rows = tensors(out)[INPUT][copied >= 0], tensors(each.tuned)[INPUT][copied[copied >= 0]]
    assert same(*rows)


def test_the_base_itself_becomes_the_transplanted_base(each: Models, tmp_path: Path) -> None:
    put(each.base, each.healed, tmp_path / "out", strength=1)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (each.healed / WEIGHTS).read_bytes()


def test_strength_0_leaves_the_body_byte_for_byte(tied: Models, tmp_path: Path) -> None:
    result = put(tied.tuned, tied.healed, tmp_path / "out", strength=0)
    before, after = tensors(tied.tuned), tensors(tmp_path / "out")
    assert all(same(before[name], after[name]) for name in before.keys() - TABLES)
    assert same(after[INPUT], tensors(tied.result.folder)[INPUT])  # it is of the body alone
    assert result.record["like"]["body"] is None
    assert any("strength 0" in line for line in result.warnings)


def test_both_differences_are_added_as_written(each: Models) -> None:
    result = each.result
    fine, old, new, made = (
        {name: tensor.double().numpy() for name, tensor in tensors(folder).items()}
        for folder in (each.tuned, each.base, each.healed, result.folder)
    )
    assert made.keys() == fine.keys()
    for name in made:
        if name in TABLES:  # with all of what training has changed, whatever the strength
            weights = weights_of(each.plan, "output" if name == OUTPUT else "input")
            wanted = weights @ fine[name] + (new[name] - weights @ old[name])
        else:
            wanted = fine[name] + 0.5 * (new[name] - old[name])
        rounding = 2.0**-8 * np.abs(wanted) + 1e-6  # bfloat16; float32 before it
        assert (np.abs(made[name] - wanted) <= rounding).all(), name
    said = result.record["like"]
    assert result.record["recipe"]["strength"] == 0.5
    assert said["body"]["changed"] == said["body"]["compared"] == len(fine.keys() - TABLES)
    size = sum(np.square(old[n]).sum() for n in old.keys() - TABLES)
    apart = sum(np.square(new[n] - old[n]).sum() for n in old.keys() - TABLES)
    assert said["body"]["relative"] == pytest.approx(np.sqrt(apart / size), rel=1e-4)
    assert any("0.5 of the difference is added" in line for line in result.warnings)


def test_only_what_was_trained_differs_from_the_plan(tied: Models, tmp_path: Path) -> None:
    given = tensors(tied.made)
    chosen = torch.from_numpy(np.flatnonzero(tied.plan.kind == Kind.MISSING))[:100]
    chosen[0] = int(np.flatnonzero(tied.plan.kind == Kind.SHARED)[5])
    given[INPUT][chosen] += 0.01
    like, out = write(tied.made, tmp_path / "like", given), tmp_path / "out"
    result = put(tied.tuned, like, out)
    rows, before = tensors(out)[INPUT], tensors(tied.applied)[INPUT]
    others = torch.ones(len(rows), dtype=torch.bool)
    others[chosen] = False
    assert same(rows[others], before[others])
    moved = rows[chosen].float() - before[chosen].float()
    assert bool(((moved - 0.01).abs() <= 2.0**-7 * before[chosen].float().abs() + 1e-3).all())
    assert result.record["like"]["rows"][INPUT]["trained"] == 100
    # Rows that were trained are not said to be copies, which would be checked as such.
    pair, _ = FineTune(result.recipe).open()
    copies = np.isin(tied.plan.kind, (Kind.SHARED, Kind.SPECIAL))
    copies &= tied.plan.copied().numpy() >= 0
    copies[chosen] = False
    assert ((pair.alignment.source >= 0) == copies).all()
    # The plan that is written says so, and explains the rows all the same.
    said = inspect(plan=out, token=" the")  # noqa: S106 - a word, not a password
    assert said.further == {INPUT: 100}
    assert said.source is not None
    assert said.source.rows["input"][0] == ("' the'", 1.0)


def test_the_card_says_how_it_was_made(tied: Models) -> None:
    card = (tied.result.folder / "README.md").read_text()
    assert f"by the rows of `{tied.healed}`, which was made of `{tied.base}`" in card
    assert "with 0.5 of what it has changed in the body (46 of 46 tensors)" in card


def test_storage_in_another_type_is_no_training(tied: Models, tmp_path: Path) -> None:
    wide = {name: tensor.float() for name, tensor in tensors(tied.made).items()}
    like = write(tied.made, tmp_path / "like", wide)
    put(tied.tuned, like, tmp_path / "out")
    applied = tensors(tied.applied)
    assert all(same(applied[n], tensor) for n, tensor in tensors(tmp_path / "out").items())


def test_shards_and_their_names_do_not_matter(tied: Models, tmp_path: Path) -> None:
    folders = []
    for count, source in enumerate((tied.tuned, tied.healed, BUNDLED_FOLDER / tied.base), 2):
        folder, given = tmp_path / source.name, tensors(source)
        shutil.copytree(source, folder)
        (folder / WEIGHTS).unlink()
        place = {name: f"part-{n % count}.safetensors" for n, name in enumerate(given)}
        for shard in set(place.values()):
            save_file({n: t for n, t in given.items() if place[n] == shard}, folder / shard)
        (folder / INDEX).write_text(json.dumps({"weight_map": place}))
        folders.append(folder)
    put(*folders[:2], tmp_path / "out", original=str(folders[2]))
    whole, parts = tensors(tied.result.folder), tensors(tmp_path / "out")
    assert whole.keys() == parts.keys()
    assert all(same(whole[name], parts[name]) for name in whole)
    assert len(list((tmp_path / "out").glob("part-*"))) == 2


def test_without_a_plan_it_is_worked_out(each: Models, tmp_path: Path) -> None:
    bare = as_a_trainer_saves(shutil.copytree(each.healed, tmp_path / "bare"))
    result = put(each.tuned, bare, tmp_path / "out", original=each.base)
    made, fine, old, new = (tensors(f) for f in (tmp_path / "out", each.tuned, each.base, bare))
    assert result.record["like"]["plan"] == "worked out"
    assert "plan" not in result.record
    assert any("has no plan" in line for line in result.warnings)
    for name, role in ((INPUT, "input"), (OUTPUT, "output")):
        if name not in made:
            continue
        source = each.plan.copied(role)
        missing = each.plan.kind == Kind.MISSING
        assert same(made[name][missing], new[name][missing])
        shared = (each.plan.kind == Kind.SHARED) & (source >= 0)
        of = source[shared]
        wanted = fine[name][of].double() + (new[name][shared].double() - old[name][of].double())
        rounding = 2.0**-8 * wanted.abs() + 1e-6
        assert bool(((made[name][shared].double() - wanted).abs() <= rounding).all())
    # As with its plan, but for the rows of tokens whose making is not to be seen any more.
    other = tensors(each.result.folder)
    assert all(same(made[name], other[name]) for name in made.keys() - TABLES)


def test_without_a_plan_an_untrained_transplant_serves_as_well(
    tied: Models, tmp_path: Path
) -> None:
    bare = as_a_trainer_saves(shutil.copytree(tied.made, tmp_path / "bare"))
    out = tmp_path / "out"
    result = put(tied.tuned, bare, out, original=tied.base)
    assert result.record["like"]["rows"][INPUT]["trained"] == 0
    rows, source = tensors(out)[INPUT], tied.plan.copied()
    shared = (tied.plan.kind == Kind.SHARED) & (source >= 0)
    assert same(rows[shared], tensors(tied.tuned)[INPUT][source[shared]])
    missing = tied.plan.kind == Kind.MISSING
    assert same(rows[missing], tensors(bare)[INPUT][missing])


def test_buffers_that_transformers_does_not_load_are_no_part_of_a_body(
    tied: Models, tmp_path: Path
) -> None:
    """Older programs stored the frequencies of positions; a trainer of today drops them."""
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)}
    given = tensors(tied.base) | old
    base = write(tied.base, tmp_path / "base", given)
    put(base, tied.healed, tmp_path / "out", original=str(base), strength=1)
    made = tensors(tmp_path / "out")
    assert same(made.pop(next(iter(old))), torch.ones(16))
    assert all(same(made[name], tensor) for name, tensor in tensors(tied.healed).items())


def test_the_wider_type_that_is_asked_for_is_rounded_once(tied: Models, tmp_path: Path) -> None:
    put(tied.tuned, tied.healed, tmp_path / "out", dtype="float32")
    wide, narrow = tensors(tmp_path / "out")[INPUT], tensors(tied.result.folder)[INPUT]
    assert wide.dtype == torch.float32
    assert same(wide.bfloat16(), narrow)
    assert not same(wide, narrow.float())


CHAT = "{% for m in messages %}{{ m.content }}MARK{% endfor %}"


@pytest.mark.parametrize(
    ("mark", "said", "kept"),
    [
        ("{{ '\\n' }}", {}, "own"),
        ("<|pad|>", {}, "like"),  # a token of the base alone, which would be cut into pieces
        ("{{ '\\n' }}", {"chat_template": "donor"}, "like"),
    ],
)
def test_a_fine_tune_keeps_its_own_chat_template_where_it_suits(
    tied: Models, tmp_path: Path, mark: str, said: dict[str, str], kept: str
) -> None:
    fine, like = (shutil.copytree(f, tmp_path / f.name) for f in (tied.tuned, tied.made))
    texts = {"like": CHAT.replace("MARK", "!"), "own": CHAT.replace("MARK", mark)}
    for whose, folder in (("like", like), ("own", fine)):
        (folder / "chat_template.jinja").write_text(texts[whose])
    recipe = make_recipe({"base_model": str(fine), "like": str(like), **said, **QUIET})
    run = FineTune(recipe)
    assert run.recipe.chat_template == {"own": "base", "like": "donor"}[kept]
    assert bool([line for line in run.align()[1] if "goes along" in line]) == (mark == "<|pad|>")
    if kept == "own":
        result = transplant(recipe.model_copy(update={"out": str(tmp_path / "out")}))
        assert (tmp_path / "out" / "chat_template.jinja").read_text() == texts["own"]
        assert make_recipe(result.record["recipe"]).record() == result.record["recipe"]


def test_the_dry_run_tells_it_and_writes_nothing(tied: Models, tmp_path: Path) -> None:
    recipe = make_recipe(
        {"base_model": str(tied.tuned), "like": str(tied.healed), "out": str(tmp_path / "out")}
    )
    seen = preview(recipe)
    assert seen.recipe.strength == 0.5
    assert seen.recipe.original == tied.base
    size = (tied.result.folder / PLAN_FILE).stat().st_size
    assert seen.estimate.writes["plan"] == pytest.approx(size, rel=0.1)
    assert not any(tmp_path.iterdir())


def test_the_result_serves_fine_tunes_of_the_fine_tune(tied: Models, tmp_path: Path) -> None:
    first, second = tied.result.folder, tmp_path / "second"
    result = put(tied.tuned, first, second, strength=1)
    assert result.recipe.original == str(tied.tuned)
    assert (second / WEIGHTS).read_bytes() == (first / WEIGHTS).read_bytes()


def changed(source: Path, out: Path, name: str, tensor: torch.Tensor | None) -> Path:
    """Copy a model with a tensor replaced, added or left out."""
    given = {key: value for key, value in tensors(source).items() if key != name}
    return write(source, out, given if tensor is None else given | {name: tensor})


def narrow(folder: Path) -> Path:
    """Make a random model with the vocabulary of tiny-llama and half its width."""
    config = LlamaConfig.from_pretrained(BUNDLED_FOLDER / "tiny-llama", hidden_size=64)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / name, folder)
    return folder


def refuses(message: str, kind: type[TokswapError] = CheckpointError) -> Any:
    return pytest.raises(kind, match=re.escape(message))


def test_models_that_do_not_belong_together_are_refused(tied: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with refuses("'tiny-mistral' is no fine-tune of 'tiny-llama', of which"):
        put("tiny-mistral", tied.healed, out)
    with refuses(f"{str(tied.healed)!r} was not made of 'tiny-mistral', whose vocabulary is anoth"):
        put(tied.tuned, tied.healed, out, original="tiny-mistral")
    with refuses("is no fine-tune of 'tiny-llama': its width is 64 and not 128; a model of anoth"):
        put(narrow(tmp_path / "narrow"), tied.healed, out)
    less = changed(tied.tuned, tmp_path / "less", BODY, None)
    with refuses(
        f"{str(less)!r} is of another architecture than 'tiny-llama': it lacks model.norm"
    ):
        put(less, tied.healed, out)
    taller = changed(tied.healed, tmp_path / "taller", BODY, torch.ones(64).bfloat16())
    with refuses("model.norm.weight is (128,) in the one and (64,) in the other"):
        put(tied.tuned, taller, out)
    assert not out.exists()


def test_what_lacks_its_weights_or_its_record_is_refused(tied: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bare = as_a_trainer_saves(shutil.copytree(tied.healed, tmp_path / "bare"))
    with refuses("does not say of which base it was made", RecipeError):
        put(tied.tuned, bare, out)
    plan = shutil.copytree(tied.made, tmp_path / "plan")
    (plan / WEIGHTS).unlink()
    with refuses("holds no weights, so it is no transplanted base"):
        put(tied.tuned, plan, out)
    gone = shutil.copytree(tied.healed, tmp_path / "gone")
    record = json.loads((gone / "tokswap.json").read_text())
    record["recipe"]["base_model"] = "nowhere"
    (gone / "tokswap.json").write_text(json.dumps(record))
    with refuses("was made of is not to be had ('nowhere' is no", NameUnknownError):
        put(tied.tuned, gone, out)
    with refuses("are the same folder", OutputError):
        put(tied.tuned, tied.healed, tied.healed, overwrite=True)


def test_the_base_is_the_one_that_was_used() -> None:
    record = {"recipe": {"base_model": "llama"}, "revisions": {"base": "c0ffee"}}
    assert recorded_base(record, {}) == "meta-llama/Llama-3.2-1B@c0ffee"
    record["recipe"]["base_model"] = "org/base@main"
    assert recorded_base(record, {}) == "org/base@c0ffee"
    record["recipe"]["base_model"] = "tiny-llama"
    assert recorded_base(record, {}) == "tiny-llama"
    assert recorded_base({}, {"base": {"name": "org/base"}}) == "org/base"
    assert recorded_base({}, {}) is recorded_base({"recipe": 3}, {"base": []}) is None


def test_numbers_that_are_none_are_refused(tied: Models, tmp_path: Path) -> None:
    given = tensors(tied.healed)
    given[BODY][5] = torch.nan
    like = write(tied.healed, tmp_path / "like", given)
    with refuses(f"{like}: {BODY} holds NaN or infinite numbers"):
        put(tied.tuned, like, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["like"]


def test_a_tied_fine_tune_of_an_untied_base_gets_no_trained_rows(
    both: Callable[[str], Models], tmp_path: Path
) -> None:
    untied = both("untied")
    fine = changed(untied.tuned, tmp_path / "fine", OUTPUT, None)
    config = json.loads((fine / "config.json").read_text())
    (fine / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with refuses("is its embedding (tied), and"):
        put(fine, untied.healed, tmp_path / "out")


def test_a_fine_tune_with_a_head_of_its_own_gets_the_tables_changes_in_both(
    tied: Models, tmp_path: Path
) -> None:
    own = tensors(tied.tuned)[INPUT] * 2
    fine = changed(tied.tuned, tmp_path / "fine", OUTPUT, own)
    config = json.loads((fine / "config.json").read_text())
    (fine / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    put(fine, tied.healed, tmp_path / "out")
    made, new, old = (tensors(f) for f in (tmp_path / "out", tied.healed, tied.base))
    source = tied.plan.copied()
    shared = (tied.plan.kind == Kind.SHARED) & (source >= 0)
    of = source[shared]
    for name, table in ((INPUT, tensors(fine)[INPUT]), (OUTPUT, own)):
        wanted = table[of].double() + new[INPUT][shared].double() - old[INPUT][of].double()
        assert (made[name][shared].double() - wanted).abs().max() < 0.01


def test_tokens_that_a_fine_tune_has_added_do_no_harm(tied: Models, tmp_path: Path) -> None:
    rows = tensors(tied.tuned)[INPUT]
    more = torch.cat([rows, torch.full((64, rows.shape[1]), 5.0).bfloat16()])
    fine = changed(tied.tuned, tmp_path / "fine", INPUT, more)
    for name, change in (
        ("config.json", lambda said: said | {"vocab_size": len(more)}),
        ("tokenizer.json", lambda said: said | {"added_tokens": [
            *said["added_tokens"],
            {**said["added_tokens"][0], "id": len(rows), "content": "<|think|>"},
        ]}),
    ):  # fmt: skip
        said = json.loads((fine / name).read_text())
        (fine / name).write_text(json.dumps(change(said)))
    result = put(fine, tied.healed, tmp_path / "out")
    assert any("has 1 token more than the plan's base" in line for line in result.warnings)
    made, plain = tensors(tmp_path / "out"), tensors(tied.result.folder)
    assert all(same(made[name], plain[name]) for name in plain)


def test_a_stranger_is_noticed(tied: Models, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    given = {
        name: (torch.randn(t.shape, generator=draw) * t.float().std()).to(t.dtype)
        for name, t in tensors(tied.base).items()
    }
    stranger = write(tied.base, tmp_path / "stranger", given)
    told = put(stranger, tied.healed, tmp_path / "a").warnings
    assert any("is it a fine-tune of it?" in line for line in told)
    made = open_transplanted(tied.result.recipe)
    told = far_lines(made, Difference(46, ("all",), 1.4), made.original, made.original_layout)
    assert [line.endswith("was it made of it?") for line in told] == [True]
    assert not any("?" in line for line in tied.result.warnings)


def test_nothing_is_added_to_a_quantised_fine_tune(tmp_path: Path) -> None:
    base, made, fine = tmp_path / "base", tmp_path / "made", tmp_path / "fine"
    models.write(base, "fp8")
    said = {"method": "pieces", "out": str(made), **QUIET}
    transplant(base_model=str(base), donor="tiny-mistral", **said)
    shutil.copytree(base, fine)
    # Quantised alike and untrained: its plan is applied.
    result = put(fine, made, tmp_path / "out")
    assert any("so nothing is added" in line for line in result.warnings)
    norm = BODY
    like = shutil.copytree(made, tmp_path / "like")
    file = next(f for f in like.glob("*.safetensors") if norm in load_file(f))
    given = load_file(file)
    given[norm] = given[norm] * 2
    quantised = next(n for n, t in given.items() if t.dtype == torch.float8_e4m3fn)
    given[quantised].view(torch.uint8)[0, 0] ^= 1
    save_file(given, file, metadata={"format": "pt"})
    with refuses("and that cannot be added to numbers that are quantised"):
        put(fine, like, tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_the_recipe_asks_for_one_of_both() -> None:
    pair = {"base_model": "a", "like": "b"}
    for said, message in (
        ({"base_model": "a"}, "donor: is missing (`like` may stand in its place)"),
        ({**pair, "donor": "c"}, "like: stands in the place of a donor, and both were given"),
        ({**pair, "method": "omp"}, "method: the rows of a transplanted base are made already"),
        ({**pair, "seed": 3}, "seed: the rows"),
        ({**pair, "tokenizer": {"bos": "keep"}}, "tokenizer: the rows"),
        ({**pair, "strength": 1.5}, "strength: Input should be less than or equal to 1"),
        ({**pair, "strength": float("nan")}, "strength: Input should be less than or equal to 1"),
        ({"base_model": "a", "donor": "b", "strength": 0.5}, "strength: says something of `like`"),
        ({"base_model": "a", "donor": "b", "original": "c"}, "original: says something of `like`"),
    ):
        with pytest.raises(RecipeError, match=re.escape(message)):
            make_recipe(said)
    for flag in ("plan_only", "resume"):
        with pytest.raises(RecipeError, match=f"{flag.replace('_', '-')}: like a transplanted"):
            transplant(**pair, **{flag: True})
    recipe = make_recipe({**pair, "strength": 1})
    assert make_recipe(recipe.record()) == recipe
    assert (
        not {"like", "strength", "original"}
        & make_recipe({"base_model": "a", "donor": "b"}).record().keys()
    )
