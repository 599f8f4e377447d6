"""Checkpoints as they are published: opened, loaded and checked against a base; no code is run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import torch
from hub_server import HubServer, Repo
from safetensors.torch import save_file

from tests.hypernet.made import LANGUAGES, for_base, settings, weights, write
from tests.hypernet.test_flax import as_flax, packed
from tokswap.errors import CheckpointError, MethodError, NameUnknownError
from tokswap.hypernet.byte_level import byte_level
from tokswap.hypernet.published import Published, open_published
from tokswap.vocabulary.identity import content_hash
from tokswap.vocabulary.tokens import Vocabulary

WIDTH = 12


def checkpoint(folder: Path, base: Vocabulary, kind: str = "untied", **more) -> Published:
    return open_published(str(for_base(folder, base, WIDTH, kind, **more)))


def fits(opened: Published, base: Vocabulary, **other) -> None:
    untied = opened.config.separate_out_embeddings
    opened.check_base(base, **({"rows": len(base), "width": WIDTH, "tied": not untied} | other))


@pytest.mark.parametrize("kind", ["tied", "untied", "language"])
def test_is_loaded_as_it_is_stored(kind: str, tmp_path: Path, small) -> None:
    """Beside it lies code that ends the process, which config.json names."""
    opened = checkpoint(tmp_path, small("prepend"), kind)
    network = opened.load()
    tensors = weights(json.loads((tmp_path / "config.json").read_text()))
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert not any(parameter.requires_grad for parameter in network.parameters())
    count = sum(parameter.numel() for parameter in network.parameters())
    assert opened.parameters == count
    assert opened.base == "org/base"


def test_weights_in_shards_and_of_flax(tmp_path: Path, small) -> None:
    whole = checkpoint(tmp_path / "whole", small("prepend")).load().state_dict()
    for form in ("shards", "flax"):
        folder = tmp_path / form
        checkpoint(folder, small("prepend"))
        (folder / "model.safetensors").unlink()
        tensors = weights(json.loads((folder / "config.json").read_text()))
        if form == "flax":
            (folder / "flax_model.msgpack").write_bytes(msgpack.packb(packed(as_flax(tensors))))
        else:
            names = sorted(tensors)
            shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
            for file, part in shards.items():
                save_file({name: tensors[name] for name in part}, folder / file)
            of = {name: file for file, part in shards.items() for name in part}
            index = json.dumps({"weight_map": of})
            (folder / "model.safetensors.index.json").write_text(index)
        found = open_published(str(folder)).load().state_dict()
        assert all(torch.equal(tensor, whole[name]) for name, tensor in found.items())


def test_safetensors_are_preferred(tmp_path: Path, small) -> None:
    opened = checkpoint(tmp_path, small("prepend"))
    (tmp_path / "flax_model.msgpack").write_bytes(b"damaged")
    assert opened.weights == ["model.safetensors"]
    opened.load()


def test_what_has_no_weights_is_refused(tmp_path: Path, small) -> None:
    checkpoint(tmp_path, small("prepend"))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor flax_model.msgpack"):
        _ = open_published(str(tmp_path)).weights


def test_the_identity_is_that_of_the_content(tmp_path: Path, small) -> None:
    one = checkpoint(tmp_path / "one", small("prepend"))
    two = checkpoint(tmp_path / "two", small("prepend"))
    assert one.identity == two.identity
    assert one.identity.startswith("sha256:")
    said = settings(rows=len(small("prepend")), hn_n_extra_tokens=one.config.hn_n_extra_tokens)
    write(tmp_path / "two", said, weights(said, seed=1))
    other = open_published(str(tmp_path / "two"))
    assert other.identity != one.identity  # and what was read of the old files is forgotten


@pytest.mark.parametrize("name", ["prepend", "whitespace", "unigram", "wordpiece", "split"])
def test_the_base_that_it_was_made_for_suits(name: str, tmp_path: Path, small) -> None:
    base = small(name)
    fits(checkpoint(tmp_path, base), base, rows=len(base) + 64)  # with rows beyond its tokens


def test_bytes_may_be_appended_beside_those_of_the_base(tmp_path: Path, small) -> None:
    """The published tokenizers keep `<0xE9>` as it is where the base has the character é."""
    base = small("prepend")
    tokenizer, added = byte_level(base)
    vocab = dict(tokenizer["model"]["vocab"])
    vocab |= {"<0xE9>": vocab["é"], "é": len(base) + added}
    tokenizer["model"] = {**tokenizer["model"], "vocab": vocab}
    said = settings(rows=len(base), hn_n_extra_tokens=added + 1)
    fits(open_published(str(write(tmp_path, said, weights(said), tokenizer))), base)


def test_a_fine_tune_with_tokens_of_its_own_suits(tmp_path: Path, small) -> None:
    base = small("prepend")
    special = base.special | {len(base)}
    tuned = replace(
        base,
        spelling=(*base.spelling, b"<tool>", b"other"),
        strings=(*base.strings, "<tool>", "other"),
        special=special,
    )
    fits(checkpoint(tmp_path, base), tuned)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 16}, r"rows of width 12, and those of 'prepend' have width 16; .*\(org/base\)"),
        ({"tied": True}, "'prepend' has one table for both roles .* made for a base with a head"),
    ],
)
def test_a_base_of_another_shape_is_refused(other, message: str, tmp_path: Path, small) -> None:
    with pytest.raises(MethodError, match=message):
        fits(checkpoint(tmp_path, small("prepend")), small("prepend"), **other)


def test_a_base_of_fewer_rows_is_refused(tmp_path: Path, small) -> None:
    base = small("prepend")
    opened, count = checkpoint(tmp_path, base), len(base)
    few = replace(base, spelling=base.spelling[:300], strings=base.strings[:300])
    with pytest.raises(MethodError, match=rf"reads {count} rows of its base .* 'prepend' has 300"):
        fits(opened, few, rows=300)
    fits(opened, base, rows=300)  # added tokens need no rows


def test_an_untied_base_is_refused_by_a_network_for_a_tied_one(tmp_path: Path, small) -> None:
    with pytest.raises(MethodError, match=r"'prepend' has a head of its own, and .* one table"):
        fits(checkpoint(tmp_path, small("prepend"), "tied"), small("prepend"), tied=False)


def test_another_vocabulary_is_refused(tmp_path: Path, small) -> None:
    opened, base = checkpoint(tmp_path, small("prepend")), small("split")
    with pytest.raises(
        MethodError, match=r"id \d+ is .* in the base and .* tokenizer.json; \d+ of"
    ):
        fits(opened, base, rows=500)


def test_a_single_other_token_is_seen(tmp_path: Path, small) -> None:
    base = small("prepend")
    number = base.ids[b" the"]
    spelling = [*base.spelling]
    spelling[number] = b" other"
    strings = [*base.strings]
    strings[number] = "▁other"
    ids = {data: n for data, n in base.ids.items() if n != number} | {b" other": number}
    other = replace(base, spelling=tuple(spelling), strings=tuple(strings), ids=ids)
    opened = checkpoint(tmp_path, base)
    with pytest.raises(
        MethodError, match=rf"id {number} is ' other' in the base and ' the' in .* 1 of"
    ):
        fits(opened, other)


def test_the_hash_of_the_vocabulary_is_believed(tmp_path: Path, small) -> None:
    """Where training has noted it, nothing else is asked of the tokens."""
    base = small("prepend")
    tokenizer, added = byte_level(base)
    vocab = {" ".join(string): number for string, number in tokenizer["model"]["vocab"].items()}
    tokenizer["model"] |= {"vocab": vocab, "merges": []}
    said = settings(rows=len(base), hn_n_extra_tokens=added)
    write(tmp_path, said, weights(said), tokenizer)
    with pytest.raises(MethodError, match="was made for another vocabulary"):
        fits(open_published(str(tmp_path)), base)
    noted = {"base": {"name": "org/base", "sha256": content_hash(base)}}
    write(tmp_path, {**said, "tokswap": noted}, weights(said))
    fits(open_published(str(tmp_path)), base)


def test_languages_are_found_by_name(tmp_path: Path, small) -> None:
    opened = checkpoint(tmp_path, small("prepend"), "language")
    assert [opened.language(name) for name in LANGUAGES] == [0, 1, 2]
    assert opened.language("2") == opened.language(2) == 2
    with pytest.raises(MethodError, match=r"knows no language 'enn'; did you mean 'en'\?; .* fr$"):
        opened.language("enn")
    with pytest.raises(MethodError, match=r"give --set method.language=… \(de, en, fr\)"):
        opened.language(None)


def test_languages_without_names_are_found_by_number(tmp_path: Path, small) -> None:
    opened = checkpoint(tmp_path, small("prepend"), "untied language")
    assert opened.language(1) == 1
    for wrong in (3, -1, "en"):
        with pytest.raises(MethodError, match="it knows 0 to 2"):
            opened.language(wrong)


def test_a_network_of_no_language_is_told_none(tmp_path: Path, small) -> None:
    opened = checkpoint(tmp_path, small("prepend"))
    assert opened.language(None) is None
    with pytest.raises(MethodError, match="is told no language, given 'en'"):
        opened.language("en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hn_model_type": "t5"}, "hn_model_type: 't5', which is not supported"),
        ({"hn_add_inter_token_attention": True}, "hn_add_inter_token_attention: True"),
        ({"hn_embed_target_priors": True}, "hn_embed_target_priors: True"),
        ({"hn_embed_using_source_embeddings": False}, "reads no rows of a base"),
        ({"hn_hidden_size": None}, "hn_hidden_size"),
        ({"hn_hidden_size": "big"}, "hn_hidden_size"),
        ({"hn_num_attention_heads": 5}, "5 heads do not divide a width of 32"),
        ({"hn_n_layers": 10**9}, "hn_n_layers"),
        ({"hn_embed_lang_id": True, "n_langs": None}, "n_langs does not say"),
        ({"hn_embed_lang_id": True, "langs": ["de"], "n_langs": 2}, "langs names 1 languages"),
    ],
)
def test_other_kinds_are_refused(change: dict, message: str, tmp_path: Path, small) -> None:
    checkpoint(tmp_path, small("prepend"))
    said = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=message) as error:
        _ = open_published(str(tmp_path)).config
    assert "\n" not in str(error.value)


def test_what_is_no_hypernetwork_is_refused() -> None:
    with pytest.raises(CheckpointError, match="tiny-llama is no hypernetwork"):
        _ = open_published("tiny-llama").config
    with pytest.raises(NameUnknownError, match="'no such thing' is no alias"):
        open_published("no such thing")


FROM_THE_HUB = """
from tokswap.hypernet.published import open_published
opened = open_published("org/net")
opened.surface_forms
print(opened.identity)
network = opened.load()
print(float(network.scaler.w.sum()))
"""


def test_of_the_hub_only_what_is_needed_is_fetched(tmp_path: Path, small) -> None:
    """No weights in another format, and no code."""
    net = checkpoint(tmp_path / "net", small("prepend")).load()
    (tmp_path / "net" / "flax_model.msgpack").write_bytes(b"the same weights once more")
    with HubServer({"org/net": Repo(tmp_path / "net")}) as hub:
        environment = os.environ | hub.environment(tmp_path / "home")
        ran = subprocess.run(
            [sys.executable, "-c", FROM_THE_HUB],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        identity, total = ran.stdout.split()
        assert identity == "org/net@" + Repo(tmp_path).commit
        assert float(total) == float(net.scaler.w.sum())
        answers = [served for served in hub.served if served.size and served.status < 300]
    fetched = {Path(served.name).name for served in answers if "." in served.name}
    assert fetched == {"config.json", "tokenizer.json", "model.safetensors"}
