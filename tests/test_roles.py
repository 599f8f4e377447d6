"""Special tokens in a whole transplant: a BOS that is kept, a token that opens and closes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transplants import swap

from tokswap.application import apply
from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import RecipeError
from tokswap.inspection import inspect
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.recipe import make_recipe
from tokswap.report.record import special_tokens
from tokswap.report.warnings import warnings_for

PROMPT = "def main(self, name):\n    return the value of this"
ROWS = 4160


def donor_of(folder: Path, name: str, *, template: bool = True, vocab_size: int = 0, **roles):
    """Write a bundled tokenizer with other roles, without its post-processor where asked."""
    folder.mkdir()
    source = BUNDLED_FOLDER / name
    said = json.loads((source / "tokenizer.json").read_text())
    if not template:
        said["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(said))
    config = json.loads((source / "tokenizer_config.json").read_text())
    config = {key: value for key, value in (config | roles).items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if vocab_size:
        (folder / "config.json").write_text(json.dumps({"vocab_size": vocab_size}))
    return folder


@pytest.fixture(scope="module")
def headless(tmp_path_factory) -> Path:
    """A donor that begins texts with nothing, with more rows than tokens."""
    folder = tmp_path_factory.mktemp("headless") / "donor"
    return donor_of(folder, "tiny-mistral", template=False, vocab_size=ROWS, bos_token=None)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(PROMPT * 20)
    return {"window": 64, "text": [str(path)]}


@pytest.fixture(scope="module")
def kept(headless, measured, tmp_path_factory) -> Transplant:
    out = tmp_path_factory.mktemp("kept") / "out"
    return swap("tiny-llama", headless, out, tokenizer={"bos": "keep"}, verify=True, eval=measured)


def test_the_kept_bos_is_the_bases_row_in_a_spare_place(kept, headless):
    base = Checkpoint.open("tiny-llama")
    size = len(Checkpoint.open(str(headless)).vocabulary)
    old = base.vocabulary.roles["bos"]
    assert kept.record["kept_bos"] == {
        "token": "<|begin_of_text|>",
        "id": size,
        "base_id": old,
        "files": ["tokenizer.json", "tokenizer_config.json"],
    }
    assert kept.record["counts"]["donor_size"] == ROWS  # no row more than the donor has
    table = load_file(kept.folder / "model.safetensors")["model.embed_tokens.weight"]
    assert len(table) == ROWS
    assert torch.equal(table[size], base.load("model.embed_tokens.weight")[old])
    assert not any("begins each text" in warning for warning in kept.warnings)


def test_all_that_is_written_knows_the_kept_bos(kept, headless):
    number = kept.record["kept_bos"]["id"]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((kept.folder / name).read_text())["bos_token_id"] == number
    loaded = AutoTokenizer.from_pretrained(kept.folder)
    before = AutoTokenizer.from_pretrained(headless)
    assert loaded(PROMPT)["input_ids"] == [number, *before(PROMPT)["input_ids"]]
    written = Checkpoint.open(str(kept.folder)).vocabulary
    assert written.roles["bos"] == number
    assert kept.record["verified"]["copied_rows"] > 1000
    assert kept.record["sha256"]["donor tokenizer.json"] == written.sha256


def test_both_variants_are_measured_by_their_own_beginning(kept, headless, measured, tmp_path):
    plain = swap("tiny-llama", headless, tmp_path / "out", eval=measured)
    assert plain.record["kept_bos"] is None
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (plain.folder / file).read_bytes() == (headless / file).read_bytes()
    assert any("`--bos keep` adds" in warning for warning in plain.warnings)
    one, other = (result.evaluation.results[1] for result in (kept, plain))
    assert (one.tokens, one.bytes) == (other.tokens, other.bytes)
    assert one.nats != other.nats  # the first tokens follow another one


def test_a_prompt_of_shared_tokens_gives_the_bases_hidden_states(kept):
    """With its own beginning of text, the body sees what it saw before, bit for bit."""
    pair = open_pair(kept.recipe)
    ids = [i for i in pair.alignment.anchors[:40].tolist() if pair.alignment.source[i] >= 0]
    number, old = kept.record["kept_bos"]["id"], kept.record["kept_bos"]["base_id"]
    new = torch.tensor([[number, *ids]])
    before = torch.tensor([[old, *pair.alignment.source[ids].tolist()]])
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        for folder in (BUNDLED_FOLDER / "tiny-llama", kept.folder)
    ]
    states = [
        model(given, output_hidden_states=True).hidden_states
        for model, given in zip(models, (before, new), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_one_row_more_where_no_place_is_spare(tmp_path):
    donor = donor_of(tmp_path / "donor", "tiny-mistral", template=False, bos_token=None)
    recipe = make_recipe(
        {"base_model": "tiny-llama", "donor": str(donor), "method": "pieces"},
        ["tokenizer.bos=keep"],
    )
    pair = open_pair(recipe)
    assert pair.alignment.rows == len(Checkpoint.open(str(donor)).vocabulary) + 1


def test_a_donor_that_begins_texts_keeps_its_own():
    recipe = make_recipe({"base_model": "tiny-llama", "donor": "tiny-mistral"})
    recipe = make_recipe(recipe.record(), ["tokenizer.bos=keep"])
    with pytest.raises(RecipeError, match="'tiny-mistral' begins them with <s>; leave it out"):
        open_pair(recipe)


def test_the_edited_files_go_with_the_pair(headless):
    said = {"base_model": "tiny-llama", "donor": str(headless), "tokenizer": {"bos": "keep"}}
    pair = open_pair(make_recipe(said | {"method": "pieces"}))
    edited = pair.donor.files.path("tokenizer.json")
    assert edited.parent != headless
    assert pair.donor.files.path("config.json").parent == headless
    assert pair.donor.files.location.target == str(headless)
    assert edited.is_file()
    del pair
    assert not edited.parent.exists()


def test_inspect_shows_the_kept_bos_and_what_the_recipe_says(headless):
    tokenizer = {"bos": "keep", "tokens": {"<unk>": {"source": "<|pad|>"}}}
    found = inspect("tiny-llama", str(headless), tokenizer=tokenizer)
    shown = {row["token"]: (row["base_token"], row["by"]) for row in found.special_tokens}
    assert shown["<|begin_of_text|>"] == ("<|begin_of_text|>", "role bos")
    assert shown["<unk>"] == (None, "override")


@pytest.mark.parametrize("base", ["tiny-mistral", "tiny-llama"])
def test_a_token_that_opens_and_closes(base, tmp_path):
    """One table holds the end of text; of two, the embedding holds the beginning."""
    end = {"tiny-mistral": "<|end_of_text|>", "tiny-llama": "</s>"}[base]
    other = {"tiny-mistral": "tiny-llama", "tiny-llama": "tiny-mistral"}[base]
    donor = donor_of(tmp_path / "donor", other, bos_token=end, eos_token=end)
    result = swap(base, donor, tmp_path / "out", verify=base == "tiny-mistral")
    old, roles = Checkpoint.open(base), Checkpoint.open(base).vocabulary.roles
    new = Checkpoint.open(str(result.folder))
    number = new.vocabulary.by_string[end]
    embedding = new.load("model.embed_tokens.weight")[number]
    if base == "tiny-llama":
        assert torch.equal(embedding, old.load("model.embed_tokens.weight")[roles["eos"]])
    else:
        assert torch.equal(embedding, old.load("model.embed_tokens.weight")[roles["bos"]])
        head = new.load("lm_head.weight")[number]
        assert torch.equal(head, old.load("lm_head.weight")[roles["eos"]])
    found = {row["token"]: row["by"] for row in special_tokens(open_pair(result.recipe).alignment)}
    assert found[end].startswith("role eos; as input of an untied base <")


EXTRA = 5
"""Added tokens that a tokenizer has and its model's tables lack."""


def short_model(folder: Path, name: str) -> Path:
    """Write a bundled model with more added tokens than its tables have rows for."""
    shutil.copytree(BUNDLED_FOLDER / name, folder)
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    first = len(Checkpoint.open(name).vocabulary)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    said["added_tokens"] += [
        {"id": first + n, "content": f"<extra of {name} {n}>"} | flags for n in range(EXTRA)
    ]
    path.write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("method", ["omp", "pieces", "mean", "normal", "zero"])
def test_tokens_beyond_the_rows_of_both(method, tmp_path):
    """Ids that tokenizers have and tables lack get rows, and are told of; nothing is out of range.

    As in gemma-3-1b-it and Code Llama, whose config says fewer tokens than the tokenizer has.
    """
    base = short_model(tmp_path / "base", "tiny-llama")
    donor = short_model(tmp_path / "donor", "tiny-mistral")
    parameters = {"k": 8} if method == "omp" else {}
    result = swap(base, donor, tmp_path / "out", method=method, parameters=parameters)
    pair = open_pair(result.recipe)
    size = len(pair.donor.vocabulary)
    table = load_file(result.folder / "model.safetensors")["model.embed_tokens.weight"]
    assert len(table) == size == 4096 + EXTRA
    assert bool(table.isfinite().all())
    assert pair.alignment.source.max() < 6144
    told = " ".join(warnings_for(pair, result.recipe))
    assert f"{EXTRA} base tokens have no row" in told
    assert ("donor tokens have no row in the donor's tables (4096 rows)" in told) == (
        method == "omp"
    )
    found = inspect(str(base), str(donor))
    assert found.counts["shared"] == result.record["counts"]["shared"]
    assert found.counts["base_size"] == 6144


def test_a_bare_tokenizer_gets_a_beginning_and_the_plan_serves_again(headless, tmp_path):
    """Of a donor that is one file; its templates in a folder begin with the token as well."""
    donor = tmp_path / "donor"
    (donor / "additional_chat_templates").mkdir(parents=True)
    shutil.copy(headless / "tokenizer.json", donor)
    template = donor / "additional_chat_templates" / "tool.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    out, again = tmp_path / "out", tmp_path / "again"
    first = swap("tiny-llama", donor, out, tokenizer={"bos": "keep"})
    assert json.loads((out / "tokenizer_config.json").read_text())["add_bos_token"] is True
    assert (out / "additional_chat_templates" / "tool.jinja").read_text().startswith("{{")
    assert any("begins texts as in the base" in line for line in first.warnings)

    plan = tmp_path / "plan"
    swap("tiny-llama", donor, plan, tokenizer={"bos": "keep"}, plan_only=True)
    made = apply(plan, "tiny-llama", out=str(again), eval=False, verify=False)
    assert made.record["sha256"] == first.record["sha256"]
    assert made.record["kept_bos"] == first.record["kept_bos"]
    token = first.record["kept_bos"]["token"]
    assert inspect(plan=plan, token=token).source.kind == "special"
    assert inspect(plan=out, token=token).source.kind == "special"


def test_in_one_table_a_token_that_opens_and_closes_closes(tmp_path):
    """A plan of two tables applied to a model with one: it has learnt to stop, and must."""
    end = "<|end_of_text|>"
    closing = donor_of(tmp_path / "donor", "tiny-llama", bos_token=end, eos_token=end)
    tied = tmp_path / "tied"
    model = AutoModelForCausalLM.from_pretrained(BUNDLED_FOLDER / "tiny-mistral")
    model.config.tie_word_embeddings = True
    model.save_pretrained(tied)
    stored = load_file(tied / "model.safetensors")
    stored.pop("lm_head.weight", None)
    save_file(stored, tied / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-mistral" / name, tied)
    swap("tiny-mistral", closing, tmp_path / "plan", plan_only=True)
    applied = apply(tmp_path / "plan", str(tied), donor=str(closing), out=str(tmp_path / "out"),
                    eval=False, verify=False)  # fmt: skip
    direct = swap(tied, closing, tmp_path / "direct")
    assert applied.record["sha256"] == direct.record["sha256"]
