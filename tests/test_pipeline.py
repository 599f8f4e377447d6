"""The transplant as a whole, on the bundled models: what must hold whatever the method."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PhiConfig, PhiForCausalLM
from transplants import same_bits, swap, tensors

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import (
    OutputError,
    RecipeError,
    TokswapError,
)
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.plan import Plan
from tokswap.vocabulary.align import Kind

PROMPT = "def main(self, name):\n    return the value of this"


@pytest.fixture(scope="module")
def phi(tmp_path_factory) -> Path:
    """A random checkpoint in several shards, with a head bias and rows without a token."""
    folder = tmp_path_factory.mktemp("phi")
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=6208,  # 64 rows more than the tokenizer has tokens
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=6141,
        eos_token_id=6142,
        dtype="float16",
    )
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.half().save_pretrained(folder, max_shard_size="300KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral", "phi"])
@pytest.mark.parametrize("method", ["omp", "normal"])
def test_a_base_onto_its_own_tokenizer_is_the_same_model(name, method, phi, tmp_path):
    base = phi if name == "phi" else BUNDLED_FOLDER / name
    parameters = {"k": 8} if method == "omp" else {}
    swap(base, base, tmp_path / "out", method=method, parameters=parameters)
    before, after = tensors(base), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(same_bits(before[key], after[key]) for key in before)
    for file in ("config.json", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (base / file).read_bytes()


def permuted(folder: Path, source: Path, seed: int) -> dict[int, int]:
    """Write a source's tokenizer with shuffled ids; return the new id of each old one."""
    said = json.loads((source / "tokenizer.json").read_text())
    size = (
        max(*said["model"]["vocab"].values(), *(token["id"] for token in said["added_tokens"])) + 1
    )
    order = list(range(size))
    random.Random(seed).shuffle(order)  # noqa: S311 - no secret
    new = dict(enumerate(order))
    said["model"]["vocab"] = {token: new[n] for token, n in said["model"]["vocab"].items()}
    for token in said["added_tokens"]:
        token["id"] = new[token["id"]]
        # The tokenizers library numbers an added token by itself unless the model has it.
        said["model"]["vocab"][token["content"]] = token["id"]
    said["added_tokens"].sort(key=lambda token: token["id"])
    for entry in (said["post_processor"] or {}).get("special_tokens", {}).values():
        entry["ids"] = [new[n] for n in entry["ids"]]
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(said))
    shutil.copy(source / "tokenizer_config.json", folder)
    return new


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_a_permuted_vocabulary_gives_permuted_logits(name, tmp_path):
    base = BUNDLED_FOLDER / name
    new = permuted(tmp_path / "donor", base, seed=5)
    result = swap(base, tmp_path / "donor", tmp_path / "out")
    assert result.record["counts"]["missing"] == 0
    before = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = Checkpoint.open(str(base)).vocabulary.backend.encode(PROMPT).ids
    old_logits = before(torch.tensor([ids])).logits
    new_logits = after(torch.tensor([[new[n] for n in ids]])).logits
    order = torch.tensor([new[n] for n in range(len(new))])
    assert torch.equal(new_logits[..., order], old_logits)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    old = json.loads((base / "config.json").read_text())
    assert config["eos_token_id"] == new[old["eos_token_id"]]
    assert config["bos_token_id"] == new[old["bos_token_id"]]


@pytest.mark.parametrize(
    ("base", "donor"), [("tiny-llama", "tiny-mistral"), ("tiny-mistral", "tiny-llama")]
)
@pytest.mark.parametrize("method", ["omp", "pieces", "mean", "normal", "zero"])
def test_prompts_of_shared_tokens_give_the_same_hidden_states(base, donor, method, tmp_path):
    parameters = {"k": 16} if method == "omp" else {}
    result = swap(base, donor, tmp_path / "out", method=method, parameters=parameters)
    alignment = open_pair(result.recipe).alignment
    shared = np.setdiff1d(alignment.ids(Kind.SHARED), alignment.doubles)
    chosen = shared[torch.randperm(len(shared), generator=torch.Generator().manual_seed(1))[:50]]
    before = AutoModelForCausalLM.from_pretrained(BUNDLED_FOLDER / base, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    old = before(torch.from_numpy(alignment.source[chosen])[None], output_hidden_states=True)
    new = after(torch.from_numpy(chosen)[None], output_hidden_states=True)
    assert all(torch.equal(a, b) for a, b in zip(old.hidden_states, new.hidden_states, strict=True))
    assert torch.equal(new.logits[..., shared], old.logits[..., alignment.source[shared]])
    assert bool(torch.isfinite(new.logits).all())


def test_bias_padding_and_every_other_tensor_are_carried(phi, tmp_path):
    out = tmp_path / "out"
    result = swap(phi, "tiny-mistral", out, tokenizer={"pad_to_multiple_of": 100})
    before, after = tensors(phi), tensors(out)
    alignment = open_pair(result.recipe).alignment
    assert alignment.rows == 4100
    vocabulary = {"model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"}
    assert all(same_bits(before[key], after[key]) for key in before.keys() - vocabulary)
    for key in vocabulary:
        source = torch.from_numpy(alignment.source).clone()
        if key.startswith("lm_head"):
            source[alignment.doubles] = -1
        copied = source >= 0
        assert len(after[key]) == 4100
        assert same_bits(after[key][copied], before[key][source[copied]])
    missing = int(alignment.missing[0])
    pieces = before["lm_head.bias"][alignment.pieces[missing]].float()
    assert after["lm_head.bias"][missing].item() == pytest.approx(pieces.mean().item(), rel=2e-3)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in after.values())
    assert set(index["weight_map"]) == set(after)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 4100


def test_padding_is_the_mean_of_the_used_rows_in_every_table(phi, tmp_path):
    """Whatever the base has at its own unused rows, zeros among them, is not handed on."""
    base = tmp_path / "base"
    shutil.copytree(phi, base)
    for shard in base.glob("*.safetensors"):
        stored = load_file(shard)
        for name in stored.keys() & {"model.embed_tokens.weight", "lm_head.weight"}:
            stored[name][6144:] = 0
        save_file(stored, shard, {"format": "pt"})
    result = swap(base, "tiny-mistral", tmp_path / "out", tokenizer={"pad_to_multiple_of": 100})
    before, after = tensors(base), tensors(tmp_path / "out")
    used = torch.from_numpy(open_pair(result.recipe).alignment.used_base_ids)
    for name in ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        mean = before[name][used].double().mean(dim=0)
        for row in after[name][4096:]:
            torch.testing.assert_close(row.double(), mean, rtol=2e-3, atol=1e-5)
    tight = swap(phi, phi, tmp_path / "tight", tokenizer={"size": "tight"})
    assert tight.record["counts"]["donor_size"] == 6144


def test_the_donors_tokenizer_travels_byte_for_byte(tmp_path):
    swap("tiny-llama", "tiny-mistral", tmp_path / "out")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        donor = BUNDLED_FOLDER / "tiny-mistral" / file
        assert (tmp_path / "out" / file).read_bytes() == donor.read_bytes()


def test_the_written_plan_reproduces_the_written_tables(tmp_path):
    swap("tiny-mistral", "tiny-llama", tmp_path / "out", method="omp", parameters={"k": 8})
    plan = Plan.load(tmp_path / "out" / "tokswap.plan")
    before, after = tensors(BUNDLED_FOLDER / "tiny-mistral"), tensors(tmp_path / "out")
    for name, role in (("model.embed_tokens.weight", "input"), ("lm_head.weight", "output")):
        assert same_bits(plan.apply(before[name], role), after[name])


def test_overrides_say_rows(tmp_path):
    overrides = {
        "<unk>": {"source": "<|pad|>"},
        " return": {"source": [" raise", " yield"]},
        " import": {"source": "zero"},
    }
    result = swap("tiny-llama", "tiny-mistral", tmp_path / "out", tokenizer={"tokens": overrides})
    pair = open_pair(result.recipe)
    base, donor = pair.base.vocabulary, pair.donor.vocabulary
    table = tensors(BUNDLED_FOLDER / "tiny-llama")["model.embed_tokens.weight"]
    rows = tensors(tmp_path / "out")["model.embed_tokens.weight"]
    assert same_bits(rows[donor.find("<unk>")], table[base.find("<|pad|>")])
    mean = (table[base.find(" raise")].float() + table[base.find(" yield")].float()) / 2
    assert torch.equal(rows[donor.find(" return")], mean.to(rows.dtype))
    assert not rows[donor.find(" import")].any()
    assert result.record["counts"]["overridden"] == 3
    with pytest.raises(RecipeError, match=r"'no such token'.*\n.*'nor this'"):
        swap(
            "tiny-llama",
            "tiny-mistral",
            tmp_path / "b",
            tokenizer={
                "tokens": {"no such token": {"source": "zero"}, "nor this": {"source": "a"}}
            },
        )


def test_dtype_changes_the_vocabulary_tensors_only(tmp_path):
    swap("tiny-mistral", "tiny-llama", tmp_path / "out", dtype="float32", verify=True)
    after = tensors(tmp_path / "out")
    types = {key: tensor.dtype for key, tensor in after.items()}
    assert types.pop("model.embed_tokens.weight") == types.pop("lm_head.weight") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


@pytest.mark.parametrize("whose", ["donor", "base", "none"])
def test_chat_template(whose, tmp_path):
    for name in ("base", "donor"):
        source = BUNDLED_FOLDER / ("tiny-llama" if name == "base" else "tiny-mistral")
        shutil.copytree(source, tmp_path / name)
        path = tmp_path / name / "tokenizer_config.json"
        said = json.loads(path.read_text()) | {"chat_template": "{{ messages }} of the " + name}
        path.write_text(json.dumps(said))
    swap(tmp_path / "base", tmp_path / "donor", tmp_path / "out", chat_template=whose)
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert found == (None if whose == "none" else "{{ messages }} of the " + whose)
    donor = (tmp_path / "donor" / "tokenizer_config.json").read_bytes()
    written = (tmp_path / "out" / "tokenizer_config.json").read_bytes()
    assert (written == donor) == (whose == "donor")


def test_a_bare_tokenizer_will_do_where_no_donor_weights_are_read(tmp_path):
    donor = tmp_path / "donor"
    donor.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-mistral" / file, donor)
    bare = swap("tiny-llama", donor, tmp_path / "a")
    full = swap("tiny-llama", "tiny-mistral", tmp_path / "b")
    assert tensors(tmp_path / "a").keys() == tensors(tmp_path / "b").keys()
    weights = "model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()
    assert bare.record["counts"] == full.record["counts"]
    with pytest.raises(TokswapError, match=r"bare tokenizer|has none"):
        swap("tiny-llama", donor, tmp_path / "c", method="omp")
    assert not (tmp_path / "c").exists()


def test_a_wider_dtype_is_combined_in(tmp_path):
    """Rows of several tokens are not rounded to the base's type on the way."""
    swap("tiny-llama", "tiny-mistral", tmp_path / "out", dtype="float32")
    rows = tensors(tmp_path / "out")["model.embed_tokens.weight"]
    assert not torch.equal(rows, rows.bfloat16().float())


def test_a_dtype_that_cannot_hold_the_base_is_refused(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    held = load_file(base / "model.safetensors")
    held["model.embed_tokens.weight"][100] = 1e5  # beyond float16
    save_file(held, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(OutputError, match=r"beyond torch\.float16; choose a wider dtype"):
        swap(base, base, tmp_path / "out", dtype="float16")


def test_no_tokenizer_file_of_the_bases_survives(tmp_path):
    base, donor, out = tmp_path / "base", tmp_path / "donor", tmp_path / "out"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    shutil.copytree(BUNDLED_FOLDER / "tiny-mistral", donor)
    stale = ["tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", "spiece.model"]
    stale += ["special_tokens_map.json", "tekken.json", "tokenizer.model.v3", "qwen.tiktoken"]
    for name in stale:
        (base / name).write_text("{}")
    (base / "LICENSE").write_text("keep me")
    config = json.loads((base / "config.json").read_text())
    maps = {"AutoConfig": "configuration_x.X", "AutoTokenizer": ["tokenization_x.X", None]}
    config |= {"tokenizer_class": "LlamaTokenizer", "auto_map": maps}
    (base / "config.json").write_text(json.dumps(config))
    (donor / "tokenizer.model").write_bytes(b"the donor's")
    swap(base, donor, out)
    assert not set(stale) - {"tokenizer.model"} & {path.name for path in out.iterdir()}
    assert (out / "tokenizer.model").read_bytes() == b"the donor's"
    assert (out / "LICENSE").is_file()
    config = json.loads((out / "config.json").read_text())
    assert "tokenizer_class" not in config
    assert config["auto_map"] == {"AutoConfig": "configuration_x.X"}


def test_a_config_that_says_another_size_is_refused(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 9000}))
    with pytest.raises(TokswapError, match=r"vocab_size of 9000 and .* has 6144 rows"):
        swap(base, "tiny-mistral", tmp_path / "out")


def test_no_chat_template_to_keep_is_told(tmp_path):
    with pytest.raises(RecipeError, match="no chat template to keep"):
        swap("tiny-llama", "tiny-mistral", tmp_path / "out", chat_template="base")


def test_ids_that_the_config_leaves_to_defaults_are_written(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-llama", base)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((base / name).read_text())
        kept = {k: v for k, v in said.items() if k not in {"bos_token_id", "eos_token_id"}}
        (base / name).write_text(json.dumps(kept))
    (base / "generation_config.json").unlink()
    swap(base, "tiny-mistral", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


def test_the_same_tokenizer_with_other_roles_keeps_its_rows(tmp_path):
    donor = tmp_path / "donor"
    donor.mkdir()
    source = BUNDLED_FOLDER / "tiny-llama"
    shutil.copy(source / "tokenizer.json", donor)
    said = json.loads((source / "tokenizer_config.json").read_text())
    said |= {"eos_token": said["pad_token"], "bos_token": said["eos_token"]}
    (donor / "tokenizer_config.json").write_text(json.dumps(said))
    swap(source, donor, tmp_path / "out")
    before, after = tensors(source), tensors(tmp_path / "out")
    assert all(same_bits(before[key], after[key]) for key in before)
