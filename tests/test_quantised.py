"""Transplants of bases with a quantised body, through the whole pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint.quantised import models
from checkpoint.quantised.models import EMBED, HEAD, SCHEMES, SKIPPED
from safetensors.torch import load_file, save_file
from transformers.quantizers.auto import AutoQuantizationConfig
from transplants import same_bits, tensors

from tokswap.carry_out import Transplant
from tokswap.checkpoint.source import INDEX, Checkpoint
from tokswap.errors import CheckpointError, EvaluationError, VerificationError
from tokswap.evaluation.load import loading_obstacle
from tokswap.pair import open_pair
from tokswap.pipeline import transplant
from tokswap.verify import verify
from tokswap.vocabulary.align import Kind

DONOR = "tiny-mistral"


def swap(base: Path, out: Path, **settings: Any) -> Transplant:
    settings = {"method": "pieces", "eval": False, "verify": False} | settings
    return transplant(base_model=str(base), donor=DONOR, out=str(out), **settings)


def read(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(path.read_text())
    return said


def settings_of(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = read(folder / "config.json")["quantization_config"]
    return said


def is_read_by_transformers(folder: Path) -> None:
    """Parse the settings by transformers' own class, where it needs no package for that."""
    if settings_of(folder)["quant_method"] == "compressed-tensors":
        pytest.importorskip("compressed_tensors")
    AutoQuantizationConfig.from_dict(settings_of(folder))


def index_is_right(folder: Path) -> None:
    index, stored = read(folder / INDEX), tensors(folder)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored.values())
    assert index["weight_map"].keys() == stored.keys()
    for name, shard in index["weight_map"].items():
        assert name in load_file(folder / shard)


@pytest.mark.parametrize("scheme", [*SCHEMES, "mxfp4"])
def test_plain_tables_are_replaced_and_the_rest_is_carried(scheme: str, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    if scheme == "mxfp4":
        models.write_mxfp4(base)
    else:
        models.write(base, scheme)
    result = swap(base, out)
    before, after = tensors(base), tensors(out)
    assert before.keys() == after.keys()
    assert all(same_bits(before[n], after[n]) for n in before.keys() - {EMBED, HEAD})
    alignment = open_pair(result.recipe).alignment
    for name in (EMBED, HEAD):
        source = torch.from_numpy(alignment.source).clone()
        if name == HEAD:
            source[alignment.doubles] = -1
        copied = source >= 0
        assert after[name].shape == (alignment.rows, 64)
        assert same_bits(after[name][copied], before[name][source[copied]])
    index_is_right(out)
    assert settings_of(out) == settings_of(base)
    assert read(out / "config.json")["vocab_size"] == alignment.rows
    is_read_by_transformers(out)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantised_head_becomes_a_plain_one(scheme: str, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    head = models.write(base, scheme, head=True)
    result = swap(base, out)
    before, after = tensors(base), tensors(out)
    parts = {name for name in before if name.startswith("lm_head.")}
    assert len(parts) > 1
    assert after.keys() == before.keys() - parts | {HEAD}
    assert all(same_bits(before[n], after[n]) for n in before.keys() - parts - {EMBED})

    plain = torch.from_numpy(np.ascontiguousarray(head)).float().bfloat16()
    alignment = open_pair(result.recipe).alignment
    shared = torch.from_numpy(np.setdiff1d(alignment.ids(Kind.SHARED), alignment.doubles))
    assert len(shared) > 1000
    sources = torch.from_numpy(alignment.source)[shared]
    assert torch.equal(after[HEAD][shared], plain[sources])
    missing = int(alignment.missing[0])
    mean = plain[list(alignment.pieces[missing])].float().mean(0)
    assert torch.allclose(after[HEAD][missing].float(), mean, rtol=1e-2, atol=1e-3)
    index_is_right(out)

    said, old = settings_of(out), settings_of(base)
    key = SKIPPED[scheme]
    assert said.pop(key) == (False if scheme == "gptq" else ["lm_head"])
    assert said == {name: value for name, value in old.items() if name != key}
    is_read_by_transformers(out)
    assert any("lm_head.weight quantised" in warning for warning in result.warnings)


def test_a_base_onto_its_own_tokenizer_keeps_its_heads_numbers(tmp_path: Path) -> None:
    head = models.write(tmp_path / "base", "awq", head=True)
    transplant(
        base_model=str(tmp_path / "base"), donor=str(tmp_path / "base"), out=str(tmp_path / "out"),
        method="mean", eval=False, verify=False,
    )  # fmt: skip
    after = tensors(tmp_path / "out")
    assert torch.equal(after[HEAD], torch.from_numpy(np.ascontiguousarray(head)).bfloat16())
    assert same_bits(after[EMBED], tensors(tmp_path / "base")[EMBED])


def test_a_quantised_embedding_becomes_a_plain_one(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    models.write(base, "fp8", settings={"modules_to_convert": ["embed_tokens"]})
    shard = base / read(base / INDEX)["weight_map"][EMBED]
    table = torch.randn(6144, 64).to(torch.float8_e4m3fn)
    scale = torch.tensor([0.25])
    scale_name = "model.embed_tokens.weight_scale"
    save_file(load_file(shard) | {EMBED: table, scale_name: scale}, shard, {"format": "pt"})
    index = read(base / INDEX)
    index["weight_map"][scale_name] = shard.name
    (base / INDEX).write_text(json.dumps(index))
    result = swap(base, out)
    alignment = open_pair(result.recipe).alignment
    shared = torch.from_numpy(alignment.ids(Kind.SHARED))
    sources = torch.from_numpy(alignment.source)[shared]
    after = tensors(out)
    assert scale_name not in after
    assert torch.equal(after[EMBED][shared], (table.float() * 0.25).bfloat16()[sources])
    assert settings_of(out)["modules_to_convert"] == []
    assert settings_of(out)["modules_to_not_convert"] == ["lm_head", "model.embed_tokens"]


def test_a_body_with_sizes_of_the_vocabulary_is_let_pass(tmp_path: Path) -> None:
    # 64 x 6144 codes of four bits in runs of 64 have 6144 scales, as there are rows.
    sizes = models.SIZES | {"intermediate_size": 6144}
    models.write(tmp_path / "base", "bitsandbytes_4bit", sizes=sizes)
    swap(tmp_path / "base", tmp_path / "out")


def test_files_that_repeat_the_settings_are_patched_too(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    rules = {"lm_head": {"bits": 4}, r"-:.*mlp": {}}
    models.write(base, "gptq", head=True, settings={"dynamic": rules})
    (base / "quantize_config.json").write_text(json.dumps(settings_of(base) | {"note": 1}))
    swap(base, out)
    wanted = {r"-:^lm_head$": {}, r"-:.*mlp": {}}
    assert list(settings_of(out)["dynamic"].items()) == list(wanted.items())
    beside = read(out / "quantize_config.json")
    assert (beside["lm_head"], beside["dynamic"], beside["note"]) == (False, wanted, 1)


def test_without_a_quantised_head_such_files_are_carried(tmp_path: Path) -> None:
    models.write(tmp_path / "base", "gptq")
    said = b'{"bits": 4,  "lm_head": true}\n'
    (tmp_path / "base" / "quantize_config.json").write_bytes(said)
    swap(tmp_path / "base", tmp_path / "out")
    assert (tmp_path / "out" / "quantize_config.json").read_bytes() == said


@pytest.mark.parametrize("method", ["hqq", "eetq", "quanto", "torchao"])
def test_a_head_in_an_unknown_form_is_refused(method: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    models.write(base, "gptq", head=True, settings={"quant_method": method})
    with pytest.raises(
        CheckpointError,
        match=rf"stores lm_head quantised by '{method}' in a form that cannot be made plain here; "
        "transplant the unquantised model and quantise the result, or give a checkpoint whose "
        "lm_head was left out of the quantisation",
    ):
        swap(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def cannot_run(scheme: str, base: Path) -> str:
    models.write(base, scheme, head=True)
    reason = loading_obstacle(base)
    if reason is None:
        pytest.skip(f"the packages for {scheme} are installed")
    return reason


def test_a_model_that_cannot_be_run_here_is_checked_as_far_as_it_can_be(
    tmp_path: Path,
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    reason = cannot_run("awq", base)
    result = swap(base, out, verify=True)
    seen = read(out / "tokswap.json")["verified"]
    assert seen["not_run"].startswith(reason[:60])
    doubles = len(open_pair(result.recipe).alignment.doubles)
    assert seen["copied_rows"] == 2 + result.record["counts"]["shared"] - doubles
    assert (seen["model_class"], seen["generated"]) == (None, "")
    assert any("the quantised model was not run" in warning for warning in result.warnings)

    row = int(open_pair(result.recipe).alignment.ids(Kind.SHARED)[5])
    shard = out / read(out / INDEX)["weight_map"][HEAD]
    tensors = load_file(shard)
    tensors[HEAD][row, 0] += 1
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(VerificationError, match=r"lm_head\.weight has copied rows that differ"):
        verify(out, open_pair(result.recipe), same_dtype=True)


def test_a_plain_model_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    models.write(base, "awq")
    result = swap(base, out)
    pair = open_pair(result.recipe)
    for folder in (base, out):
        config = read(folder / "config.json") | {"hidden_act": "no-such-function"}
        del config["quantization_config"]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VerificationError, match=r"does not load in a fresh process.*no-such"):
        verify(out, pair, same_dtype=True)


def test_measuring_what_cannot_be_loaded_is_refused_before_anything_else(tmp_path: Path) -> None:
    reason = cannot_run("awq", tmp_path / "base")
    with pytest.raises(
        EvaluationError, match=r"quantised and cannot be loaded here to be measured .*--no-eval"
    ) as error:
        swap(tmp_path / "base", tmp_path / "out", eval=True)
    assert reason in str(error.value)
    assert not (tmp_path / "out").exists()


def test_it_is_left_out_where_nobody_asked_for_it(tmp_path: Path) -> None:
    cannot_run("awq", tmp_path / "base")
    result = transplant(
        base_model=str(tmp_path / "base"), donor=DONOR, out=str(tmp_path / "out"),
        method="mean", verify=False,
    )  # fmt: skip
    assert result.evaluation is None
    assert Checkpoint.open(str(tmp_path / "out")).info(HEAD).dtype == "BF16"
