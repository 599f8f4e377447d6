"""Where transformers' own checkpoints keep their vocabulary."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from checkpoint.saved import EMBED, HEAD, LLAMA, Save, of, rewrite, roles
from tokswap.checkpoint.layout import VocabTensor, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 37}
PHI = {**LLAMA, "num_key_value_heads": 2}
NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}


def test_an_untied_llama(save: Save) -> None:
    found = of(save("Llama", torch.bfloat16, **LLAMA, tie_word_embeddings=False))
    assert (found.input, found.output, found.tied) == (EMBED, HEAD, False)
    assert found.tensors == (
        VocabTensor(EMBED, "input", axis=0, rows=37),
        VocabTensor(HEAD, "output", axis=0, rows=37),
    )


def test_a_tied_llama(save: Save) -> None:
    found = of(save("Llama", **LLAMA, tie_word_embeddings=True))
    assert (found.input, found.output, found.tied) == (EMBED, EMBED, True)
    assert roles(found) == {EMBED: "input"}


def test_a_tied_head_that_was_stored_all_the_same(save: Save) -> None:
    folder = save("Llama", **LLAMA, tie_word_embeddings=True)
    rewrite(folder, lambda tensors: tensors | {HEAD: tensors[EMBED].clone()})
    found = of(folder)
    assert (found.input, found.output, found.tied) == (EMBED, EMBED, True)
    assert roles(found) == {EMBED: "input", HEAD: "input"}


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_gpt2_with_and_without_the_prefix(save: Save, prefix: str) -> None:
    folder = save("GPT2", **GPT2)
    rewrite(folder, lambda tensors: {
        prefix + name.removeprefix("transformer."): tensor for name, tensor in tensors.items()
    })  # fmt: skip
    found = of(folder)
    name = f"{prefix}wte.weight"
    assert (found.input, found.output) == (name, name)
    assert roles(found) == {name: "input"}


def test_phi_has_a_bias(save: Save) -> None:
    found = of(save("Phi", **PHI))
    assert (found.input, found.output, found.tied) == (EMBED, HEAD, False)
    assert roles(found) == {EMBED: "input", HEAD: "output", "lm_head.bias": "output"}


def test_a_head_under_its_older_name(save: Save) -> None:
    folder = save("GPTNeoX", **NEOX)
    stored = load_file(folder / "model.safetensors")
    old = {n.replace("lm_head", "embed_out"): t for n, t in stored.items()}
    rewrite(folder, lambda _: old)
    found = of(folder)
    assert found.input == "gpt_neox.embed_in.weight"
    assert found.output == "embed_out.weight"


def test_an_unknown_tensor_of_the_vocabularys_size_is_refused_by_name(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: tensors | {"model.freq_map": torch.zeros(3, 37)})
    with pytest.raises(
        CheckpointError,
        match=r"model\.freq_map \(3, 37\) has .* size.*--drop-tensor model",
    ):
        of(folder)


def test_a_size_that_means_something_else_as_well_is_let_pass(save: Save) -> None:
    of(save("Llama", **{**LLAMA, "intermediate_size": 37}))


BUSY = {**LLAMA, "max_position_embeddings": 37, "intermediate_size": 37}


def test_a_table_of_a_layer_that_predicts_ahead_follows_its_role(save: Save) -> None:
    folder = save("Llama", **BUSY)
    ahead = {
        "model.layers.1.embed_tokens.weight": "input",
        "model.layers.1.shared_head.head.weight": "output",
    }
    rewrite(folder, lambda tensors: tensors | {name: torch.zeros(37, 8) for name in ahead})
    assert roles(of(folder)) == {EMBED: "input", HEAD: "output"} | ahead


@pytest.mark.parametrize(("table", "role"), [(EMBED, "input"), (HEAD, "output")])
def test_a_copy_under_a_name_that_says_nothing_has_its_tables_role(
    save: Save, table: str, role: str
) -> None:
    folder = save("Llama", **BUSY)
    rewrite(folder, lambda tensors: tensors | {"mtp.0.w": tensors[table].clone()})
    assert roles(of(folder))["mtp.0.w"] == role


def test_a_table_under_a_name_that_says_nothing_is_refused_by_name(save: Save) -> None:
    folder = save("Llama", **BUSY)
    rewrite(folder, lambda tensors: tensors | {"mtp.0.w": torch.zeros(37, 8)})
    with pytest.raises(CheckpointError, match=r"mtp\.0\.w \(37, 8\) has .* size"):
        of(folder)


def test_the_user_says_what_becomes_of_unknown_tensors(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    unknown = {"a.map": torch.zeros(37), "b.map": torch.zeros(37)}
    rewrite(folder, lambda tensors: tensors | unknown)
    found = find_layout(Checkpoint.open(str(folder)), keep=["a.map"], drop=["b.map"])
    assert roles(found) == {EMBED: "input", HEAD: "output"}
    assert found.dropped == ("b.map",)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"keep": ["a.mop"]}, r"stores no tensor .a\.mop.; did you mean .a\.map.\?; name one"),
        ({"keep": ["a.map"], "drop": ["a.map"]}, r"a\.map is to be both kept and dropped"),
        ({"drop": [EMBED]}, rf"{EMBED} is a table that every transplant replaces"),
        ({"keep": [HEAD]}, rf"{HEAD} is a table that every transplant replaces"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    save: Save, said: dict[str, Any], message: str
) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: tensors | {"a.map": torch.zeros(37)})
    with pytest.raises(CheckpointError, match=message):
        find_layout(Checkpoint.open(str(folder)), **said)


def test_a_table_that_ends_early_is_one_of_the_vocabularys(save: Save) -> None:
    folder = save(
        "Gemma3nText", **{**LLAMA, "num_hidden_layers": 2, "num_kv_shared_layers": 0},
        vocab_size_per_layer_input=33, hidden_size_per_layer_input=4, laurel_rank=2,
        layer_types=["full_attention", "full_attention"], activation_sparsity_pattern=[0.0, 0.0],
        altup_num_inputs=2,
    )  # fmt: skip
    found, name = of(folder), "model.embed_tokens_per_layer.weight"
    assert VocabTensor(name, "input", axis=0, rows=33) in found.tensors
    assert found.sizes == {("vocab_size_per_layer_input",): name}
    assert not found.counts_from_pad  # its padding is a row of the tokens' tables alone


def test_a_stored_head_that_differs_is_not_tied_whatever_the_config_says(save: Save) -> None:
    folder = save("Llama", **LLAMA, tie_word_embeddings=True)
    rewrite(folder, lambda tensors: tensors | {HEAD: tensors[EMBED] + 1})
    found = of(folder)
    assert (found.output, found.tied) == (HEAD, False)
    assert roles(found) == {EMBED: "input", HEAD: "output"}


def test_an_embedding_of_one_dimension_is_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: tensors | {EMBED: torch.zeros(37)})
    with pytest.raises(CheckpointError, match=r"has the shape \(37,\); an embedding has two"):
        of(folder)


def test_what_the_config_leaves_to_defaults_is_said(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    ids = {key: config.pop(key) for key in ("bos_token_id", "eos_token_id")}
    path.write_text(json.dumps(config))
    assert find_layout(Checkpoint.open(str(folder))).unsaid == ids


def test_tables_of_different_sizes_are_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: tensors | {HEAD: torch.zeros(40, 8)})
    with pytest.raises(
        CheckpointError, match=rf"{HEAD} has the shape \(40, 8\) and {EMBED} \(37, 8\)"
    ):
        of(folder)


def test_a_model_without_its_embedding_is_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != EMBED})
    with pytest.raises(CheckpointError, match=rf"stores no embedding under {EMBED}"):
        of(folder)


def test_an_untied_model_without_its_head_is_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != HEAD})
    with pytest.raises(CheckpointError, match=rf"not tied .* stores no {HEAD}.* plain checkpoint"):
        of(folder)


def test_quantised_tables_are_refused(save: Save) -> None:
    folder = save("Llama", **LLAMA)
    rewrite(folder, lambda tensors: tensors | {EMBED: tensors[EMBED].to(torch.int8)})
    with pytest.raises(CheckpointError, match=rf"stores {EMBED} as I8; quantised"):
        of(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no-such-model"},
        {"model_type": None},
        {"num_attention_heads": "many"},
        {"num_attention_heads": 0},
        {"hidden_size": -8},
        {"model_type": "clip_vision_model"},
        {"auto_map": {"AutoConfig": "code.Config"}, "model_type": "their-own"},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()),
)
def test_a_model_that_transformers_cannot_build_is_refused(
    save: Save, changes: dict[str, Any]
) -> None:
    folder = save("Llama", **LLAMA)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"which the installed transformers cannot build"):
        of(folder)


def test_a_head_that_is_quantised_beside_an_embedding_that_is_not(save: Save) -> None:
    """What the config says of quantisation changes nothing about where the tables are."""
    folder = save("Llama", **LLAMA)
    plain = of(folder)
    path = folder / "config.json"
    said = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": said}))
    rewrite(folder, lambda tensors: tensors | {
        "model.layers.0.mlp.up_proj.weight_scale_inv": torch.ones(37)
    })  # fmt: skip
    found = of(folder)
    assert replace(found, body=plain.body) == plain
    # Of a quantised model all that is stored belongs to the body.
    assert found.body.keys() - plain.body.keys() == {"model.layers.0.mlp.up_proj.weight_scale_inv"}


def test_the_body_is_known_by_the_models_own_names(save: Save) -> None:
    """Under whatever names it is stored; what transformers does not load is no part of it."""
    folder = save("Llama", **LLAMA)
    plain = of(folder)
    assert plain.body
    assert all(name == stored for name, stored in plain.body.items())
    assert not plain.body.keys() & set(plain.names)
    old = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(folder, lambda tensors: tensors | {old: torch.ones(3)})
    assert of(folder).body == plain.body
    rewrite(folder, lambda tensors: {n.removeprefix("model."): t for n, t in tensors.items()})
    assert of(folder).body == {name: name.removeprefix("model.") for name in plain.body}
