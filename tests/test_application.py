"""Saved plans on other models: the same base, fine-tunes, siblings of another size, strangers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transplants import tensors

from tokswap.application import apply
from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError, NameUnknownError, OutputError, RecipeError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant
from tokswap.plan import PLAN_FILE, Plan
from tokswap.vocabulary.align import Kind

BASE, DONOR = "tiny-llama", "tiny-mistral"
S = 6144
INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
Sibling = Callable[..., Path]


def swap(base: str | Path, out: Path, **settings) -> Transplant:
    settings = {"donor": DONOR, "method": "pieces", "eval": False, "verify": False} | settings
    return transplant(base_model=str(base), out=str(out), **settings)


def put(plan: Path, base: str | Path, out: Path, **settings) -> Transplant:
    settings = {"eval": False, "verify": False} | settings
    return apply(plan, str(base), out=str(out), **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a transplant onto the bundled, tied base."""
    out = tmp_path_factory.mktemp("made") / "out"
    swap(BASE, out, method="omp", parameters={"k": 4}, tokenizer={"pad_to_multiple_of": 100})
    return out


@pytest.fixture
def sibling(tmp_path: Path) -> Sibling:
    """Make a random model with the base's vocabulary."""

    def make(
        name: str = "sibling",
        *,
        rows: int = S,
        width: int = 32,
        tied: bool = True,
        added: dict[int, str] | None = None,
        renamed: dict[str, str] | None = None,
    ) -> Path:
        folder = tmp_path / name
        torch.manual_seed(len(name))
        config = LlamaConfig(
            vocab_size=rows,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
            bos_token_id=6141,
            eos_token_id=6142,
            dtype="bfloat16",
        )
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        said = json.loads((BUNDLED_FOLDER / BASE / "tokenizer.json").read_text(encoding="utf-8"))
        for token in said["added_tokens"]:
            token["content"] = (renamed or {}).get(token["content"], token["content"])
        vocab = said["model"]["vocab"]
        said["model"]["vocab"] = {(renamed or {}).get(k, k): n for k, n in vocab.items()}
        model = said["added_tokens"][0]
        said["added_tokens"] += [
            {**model, "id": number, "content": token} for number, token in (added or {}).items()
        ]
        (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
        shutil.copy(BUNDLED_FOLDER / BASE / "tokenizer_config.json", folder)
        return folder

    return make


def test_on_the_same_base_it_is_the_transplant_byte_for_byte(made: Path, tmp_path: Path) -> None:
    put(made, BASE, tmp_path / "out", verify=True)
    skipped = {"README.md", "tokswap.json", PLAN_FILE}
    files = {path.name for path in made.iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    for name in files - skipped:
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes(), name
    record, first = (json.loads((f / "tokswap.json").read_text()) for f in (tmp_path / "out", made))
    assert record["counts"] == first["counts"]
    assert record["sha256"] == first["sha256"]
    plan = Plan.load(made / PLAN_FILE)
    assert record["verified"]["copied_rows"] == int((plan.copied("output") >= 0).sum())
    assert record["plan"]["base"]["name"] == record["recipe"]["base_model"] == BASE
    assert record["plan"]["recipe"]["parameters"]["k"] == 4
    assert len(record["plan"]["sha256"]) == 64
    assert f"made for `{BASE}`" in (tmp_path / "out" / "README.md").read_text()
    again = put(tmp_path / "out", BASE, tmp_path / "again")  # the plan that it leaves serves again
    assert again.record["sha256"] == first["sha256"]


def test_a_fine_tune_gets_the_rows_that_the_plan_makes_of_its_own(
    made: Path, tmp_path: Path, sibling: Sibling
) -> None:
    tuned = sibling("tuned")
    put(made, tuned, tmp_path / "out")
    plan = Plan.load(made / PLAN_FILE)
    before, after = tensors(tuned), tensors(tmp_path / "out")
    assert torch.equal(after[INPUT], plan.apply(before[INPUT]))
    assert all(torch.equal(before[key], after[key]) for key in before if key != INPUT)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["vocab_size"] == plan.rows == 4100
    assert config["eos_token_id"] == Checkpoint.open(DONOR).vocabulary.roles["eos"]


def test_tokens_that_a_fine_tune_has_added_do_no_harm(
    made: Path, tmp_path: Path, sibling: Sibling
) -> None:
    tuned = sibling(rows=S + 64, added={S: "<|think|>", S + 1: "<|tool|>"})
    result = put(made, tuned, tmp_path / "out")
    assert any(
        "has 2 tokens more than the plan's base (the first: id 6144, <|think|>)" in line
        for line in result.warnings
    )
    table = tensors(tuned)[INPUT]
    expected = Plan.load(made / PLAN_FILE).apply(table[:S])
    assert torch.equal(tensors(tmp_path / "out")[INPUT], expected)


def test_a_row_that_has_got_a_token_is_not_given_to_an_id_without_one(
    tmp_path: Path, sibling: Sibling
) -> None:
    padded = sibling("padded", rows=S + 4)
    swap(padded, tmp_path / "made", donor=str(padded))
    first = Plan.load(tmp_path / "made" / PLAN_FILE)
    unused = (first.kind == Kind.UNUSED).nonzero()[:, 0]
    assert first.copied()[unused].tolist() == [S, S + 1, S + 2, S + 3]
    tuned = sibling("tuned", rows=S + 2, added={S: "<|think|>"})
    plan = put(tmp_path / "made", tuned, tmp_path / "out").plan
    assert plan.base_rows == S + 2
    assert plan.copied()[unused].tolist() == [-1, S + 1, -1, -1]
    table, after = tensors(tuned)[INPUT], tensors(tmp_path / "out")[INPUT]
    for number in unused[[0, 2, 3]]:
        assert torch.equal(after[number], plan.roles["input"].averages.apply(table)[0])
    tokens = first.kind != Kind.UNUSED
    assert torch.equal(first.copied()[tokens], plan.copied()[tokens])


def test_a_larger_untied_sibling(made: Path, tmp_path: Path, sibling: Sibling) -> None:
    large = sibling("large", rows=S + 128, width=48, tied=False)
    result = put(made, large, tmp_path / "out", verify=True)
    assert any("has a head of its own" in line for line in result.warnings)
    before, after = tensors(large), tensors(tmp_path / "out")
    plan = Plan.load(made / PLAN_FILE)
    for name in (INPUT, OUTPUT):
        assert torch.equal(after[name], plan.apply(before[name][:S]))


def test_a_plan_of_two_roles_on_a_tied_base(tmp_path: Path, sibling: Sibling) -> None:
    untied, tied = sibling("untied", tied=False), sibling("tied")
    settings = {"input": {"strategy": "last"}, "output": {"strategy": "first"}}
    swap(untied, tmp_path / "made", parameters=settings)
    result = put(tmp_path / "made", tied, tmp_path / "out")
    assert any("tied" in line for line in result.warnings)
    expected = Plan.load(tmp_path / "made" / PLAN_FILE).apply(tensors(tied)[INPUT], "input")
    assert torch.equal(tensors(tmp_path / "out")[INPUT], expected)


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"<|pad|>": "<|gap|>"}, r"id 6143 is <\|gap\|> here and another token .*; 1 of 6,144 ids"),
        ({"Ġreturn": "Ġretvrn"}, r"id \d+ is ' retvrn' here and another token in the plan's base"),
        ({"Ġreturn": "Ġname", "Ġname": "Ġreturn"}, r"another token .*; 2 of 6,144 ids differ"),
    ],
)
def test_a_base_with_another_token_is_refused(
    renamed: dict[str, str], message: str, made: Path, tmp_path: Path, sibling: Sibling
) -> None:
    other = sibling("other", renamed=renamed)
    with pytest.raises(CheckpointError, match=message):
        put(made, other, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_another_vocabulary_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"another vocabulary than that of 'tiny-mistral': id 0 is <unk> here and another "
        r"token in the plan's base; 6,\d+ of 6,144 ids differ; make a plan for this base",
    ):
        put(made, DONOR, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_token_that_the_plan_uses_must_have_a_row(
    made: Path, tmp_path: Path, sibling: Sibling
) -> None:
    short = sibling("short", rows=6141)  # its added tokens have none
    with pytest.raises(CheckpointError, match=r"rows up to id 614\d .* and '.*short' has 6,141"):
        put(made, short, tmp_path / "out")


def test_rows_that_are_held_as_they_are_need_their_width(tmp_path: Path, sibling: Sibling) -> None:
    base, wide = sibling("base"), sibling("wide", width=48)
    first = swap(base, tmp_path / "made", method="normal")
    again = put(tmp_path / "made", base, tmp_path / "out")
    assert again.record["sha256"] == first.record["sha256"]
    with pytest.raises(CheckpointError, match=r"input rows of width 32, .* normal .* width 48;"):
        put(tmp_path / "made", wide, tmp_path / "wide-out")
    assert not (tmp_path / "wide-out").exists()


def test_where_the_donors_tokenizer_comes_from(made: Path, tmp_path: Path) -> None:
    wanted = (made / "tokenizer.json").read_bytes()
    shutil.copy(made / PLAN_FILE, tmp_path / "alone.plan")
    for number, donor in enumerate([None, DONOR, str(made)]):
        out = tmp_path / str(number)
        put(tmp_path / "alone.plan", BASE, out, donor=donor)
        assert (out / "tokenizer.json").read_bytes() == wanted
    with pytest.raises(CheckpointError, match=r"'tiny-llama' is not the plan's: id 0 is "):
        put(tmp_path / "alone.plan", BASE, tmp_path / "out", donor=BASE)
    plan = Plan.load(made / PLAN_FILE)
    lost = {**plan.about, "recipe": {**plan.about["recipe"], "donor": "nowhere"}}
    Plan(plan.roles, plan.kind, lost, plan.tokens).save(tmp_path / "alone.plan")
    with pytest.raises(NameUnknownError, match=r"not to be had .* name it with --donor"):
        put(tmp_path / "alone.plan", BASE, tmp_path / "out")


def test_what_the_plan_has_settled_cannot_be_changed(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="parameters cannot be changed, for the plan's rows are"):
        put(made, BASE, tmp_path / "out", overrides=["method.k=3"])
    put(made, BASE, tmp_path / "out", overrides=["chat_template=none"], dtype="float32")
    assert tensors(tmp_path / "out")[INPUT].dtype == torch.float32


def test_a_plan_without_its_vocabularies_is_refused(made: Path, tmp_path: Path) -> None:
    plan = Plan.load(made / PLAN_FILE)
    Plan(plan.roles, plan.kind, {}).save(tmp_path / "a.plan")
    with pytest.raises(CheckpointError, match="does not say what it was made for; make it again"):
        put(tmp_path / "a.plan", BASE, tmp_path / "out")
    Plan(plan.roles, plan.kind, plan.about).save(tmp_path / "b.plan")
    with pytest.raises(CheckpointError, match="does not say which donor vocabulary it is for"):
        put(tmp_path / "b.plan", BASE, tmp_path / "out")


def test_the_folder_of_the_plan_is_not_replaced(tmp_path: Path) -> None:
    swap(BASE, tmp_path / "made", plan_only=True)
    with pytest.raises(OutputError, match="the plan lies in the output"):
        put(tmp_path / "made", BASE, tmp_path / "made", overwrite=True)
    assert (tmp_path / "made" / PLAN_FILE).is_file()
    put(tmp_path / "made", BASE, tmp_path / "out")
