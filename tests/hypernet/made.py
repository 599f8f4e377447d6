"""Hypernetworks as they are published, written by hand, and what they predict, computed elsewhere.

Names, shapes and settings are listed here once more, from the published files and not from this
program. The encoder of the reference is transformers' RobertaModel; what stands before and behind
it is plain arithmetic.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from tokswap.hypernet.byte_level import byte_level
from tokswap.vocabulary.tokens import Vocabulary

WIDTH, INNER, LENGTH, LANGUAGES = 32, 48, 5, ["de", "en", "fr"]

KINDS: dict[str, dict[str, Any]] = {
    "tied": {"separate_out_embeddings": False},
    "untied": {"separate_out_embeddings": True},
    "language": {
        "separate_out_embeddings": False,
        "hn_embed_lang_id": True,
        "n_langs": len(LANGUAGES),
        "langs": LANGUAGES,
    },
    "untied language": {
        "separate_out_embeddings": True,
        "hn_embed_lang_id": True,
        "n_langs": len(LANGUAGES),
    },
    "single head": {"separate_out_embeddings": True, "hn_single_head": True},
    "plain": {
        "separate_out_embeddings": True,
        "hn_rescale_embeddings": False,
        "hn_predict_bias": False,
    },
}
"""Every configuration that changes what there is."""


def settings(
    kind: str = "untied", *, rows: int = 50, width: int = 12, **more: Any
) -> dict[str, Any]:
    """A config.json: the base's settings with those of the network among them."""
    return {
        "_name_or_path": "org/base",
        "architectures": ["ZettHypernet"],
        "auto_map": {
            "AutoConfig": "configuration_hypernet.ZettHypernetConfig",
            "AutoModel": "modeling_hypernet.ZettHypernet",
        },
        "bos_token_id": 1,
        "hidden_size": width,
        "hn_add_inter_token_attention": False,
        "hn_concat_last_hidden_state": False,
        "hn_embed_lang_id": False,
        "hn_embed_target_priors": False,
        "hn_embed_using_source_embeddings": True,
        "hn_hidden_size": WIDTH,
        "hn_inter_token_attention_bias_by_priors": True,
        "hn_inter_token_attention_bias_by_source": False,
        "hn_intermediate_size": INNER,
        "hn_language_adapter_bottleneck_dim": 0,
        "hn_model_name_or_path": "roberta-base",
        "hn_model_type": "roberta",
        "hn_n_extra_tokens": 9,
        "hn_n_inter_token_blocks": 16,
        "hn_n_layers": 2,
        "hn_num_attention_heads": 4,
        "hn_predict_bias": True,
        "hn_rescale_embeddings": True,
        "hn_single_head": False,
        "hn_surface_maxlen": LENGTH,
        "model_type": "zett_hypernetwork",
        "n_embd": width,
        "n_langs": 7,
        "name": "v7:base",
        "original_vocab_size": rows,
        "pad_token_id": 2,
        "use_unigram_bias": True,
        "vocab_size": rows,
        **KINDS[kind],
        **more,
    }


def shapes(said: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The stored tensors of a config.json, in the words of the published files."""
    wide, inner, d = said["hn_hidden_size"], said["hn_intermediate_size"], said["n_embd"]
    untied, single = said["separate_out_embeddings"], said["hn_single_head"]
    read = 2 * d if untied else d
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, into: int, out: int) -> None:
        found.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def norm(name: str) -> None:
        found.update({f"{name}.weight": (wide,), f"{name}.bias": (wide,)})

    def projector(name: str) -> None:
        linear(f"{name}.dense1", wide, inner)
        linear(f"{name}.dense2", inner, wide)
        norm(f"{name}.ln")

    found["fallback_embeddings.weight"] = (max(said["hn_n_extra_tokens"], 1), read)
    linear("input_projection.0", read, wide)
    projector("input_projection.1")
    stem = "model.embeddings"
    found[f"{stem}.word_embeddings.weight"] = (said["pad_token_id"] + 1, wide)
    found[f"{stem}.position_embeddings.weight"] = (514, wide)
    found[f"{stem}.token_type_embeddings.weight"] = (1, wide)
    norm(f"{stem}.LayerNorm")
    for number in range(said["hn_n_layers"]):
        stem = f"model.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            linear(f"{stem}.attention.self.{part}", wide, wide)
        linear(f"{stem}.attention.output.dense", wide, wide)
        norm(f"{stem}.attention.output.LayerNorm")
        linear(f"{stem}.intermediate.dense", wide, inner)
        linear(f"{stem}.output.dense", inner, wide)
        norm(f"{stem}.output.LayerNorm")
    for name in ["output_projection", "output_projection_out"][: 1 + (untied and not single)]:
        projector(f"{name}.0")
        linear(f"{name}.1", wide, read if single else d)
    if said["hn_rescale_embeddings"]:
        for name, size in (("in_scaler", read), ("scaler", d), ("out_scaler", d))[: 2 + untied]:
            found.update({f"{name}.w": (1, size), f"{name}.b": (1, size)})
    if said["hn_predict_bias"]:
        linear("bias_projection", wide, 1)
    if said["hn_embed_lang_id"]:
        found["lang_embeddings.weight"] = (said["n_langs"], wide)
    return found


def weights(said: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random weights, none of them the one that a network begins with."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes(said).items():
        drawn = torch.randn(shape, generator=generator)
        scale = 0.3 if len(shape) > 1 else 0.1
        ones = name.endswith((".w", "ln.weight", "LayerNorm.weight"))
        found[name] = drawn * scale + (1.0 if ones else 0.0)
    return found


def write(
    folder: Path,
    said: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint as it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(said)), encoding="utf-8")
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    if tokenizer is not None:
        text = json.dumps(dict(tokenizer), ensure_ascii=False)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    for code in ("configuration_hypernet.py", "modeling_hypernet.py"):
        (folder / code).write_text("raise SystemExit('the code beside the weights was run')\n")
    return folder


def for_base(folder: Path, base: Vocabulary, width: int, kind: str = "untied", **more: Any) -> Path:
    """Write a network for a base as it is published, with rows of a usual length."""
    tokenizer, added = byte_level(base)
    said = settings(kind, rows=len(base), width=width, hn_n_extra_tokens=added, **more)
    return write(folder, said, weights(said), tokenizer)


def reference(
    said: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    forms: Tensor,
    source: Tensor,
    language: int | None = None,
) -> dict[str, Tensor | None]:
    """Predict with transformers' encoder: inputs, outputs and bias."""
    from transformers import RobertaConfig, RobertaModel

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def projector(x: Tensor, name: str) -> Tensor:
        inner = gelu(linear(x, f"{name}.dense1"), approximate="tanh")
        x = gelu(linear(inner, f"{name}.dense2"), approximate="tanh") + x
        return layer_norm(
            x, x.shape[-1:], tensors[f"{name}.ln.weight"], tensors[f"{name}.ln.bias"], 1e-6
        )

    def scaled(x: Tensor, name: str) -> Tensor:
        if not said["hn_rescale_embeddings"]:
            return x
        return x * tensors[f"{name}.w"] + tensors[f"{name}.b"]

    rows, wide = said["original_vocab_size"], said["hn_hidden_size"]
    known, own = scaled(source[:rows], "in_scaler"), tensors["fallback_embeddings.weight"]
    x = torch.cat([known, own])[forms]  # rows of its own are not rescaled
    x = projector(linear(x, "input_projection.0"), "input_projection.1")
    mask = (forms != said["pad_token_id"]).long()
    positions = torch.arange(x.shape[1]).expand(len(x), -1)
    if language is not None:
        # The library adds a position and a type to every place; here they are taken off before.
        stem = "model.embeddings"
        added = tensors[f"{stem}.position_embeddings.weight"][0]
        added = added + tensors[f"{stem}.token_type_embeddings.weight"][0]
        last = tensors["lang_embeddings.weight"][language] - added
        x = torch.cat([x, last.expand(len(x), 1, -1)], dim=1)
        mask = torch.cat([mask, torch.ones(len(x), 1, dtype=torch.int64)], dim=1)
        positions = torch.cat([positions, torch.zeros(len(x), 1, dtype=torch.int64)], dim=1)
    config = RobertaConfig(
        vocab_size=said["pad_token_id"] + 1,
        pad_token_id=said["pad_token_id"],
        hidden_size=wide,
        intermediate_size=said["hn_intermediate_size"],
        num_hidden_layers=said["hn_n_layers"],
        num_attention_heads=said["hn_num_attention_heads"],
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        attn_implementation="eager",
    )
    model = RobertaModel(config, add_pooling_layer=False).eval()
    own = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    model.load_state_dict(own, strict=True)
    with torch.no_grad():
        state = model(inputs_embeds=x, attention_mask=mask, position_ids=positions)
    h = state.last_hidden_state[:, 0]
    first = linear(projector(h, "output_projection.0"), "output_projection.1")
    second = None
    if said["hn_single_head"]:
        first, second = first[:, : said["n_embd"]], first[:, said["n_embd"] :]
    elif said["separate_out_embeddings"]:
        second = linear(projector(h, "output_projection_out.0"), "output_projection_out.1")
    return {
        "inputs": scaled(first, "scaler"),
        "outputs": None if second is None else scaled(second, "out_scaler"),
        "bias": linear(h, "bias_projection")[:, 0] if said["hn_predict_bias"] else None,
    }
