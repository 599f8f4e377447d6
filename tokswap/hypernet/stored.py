"""How hypernetworks are stored: the published names, shapes and files.

Files of this program load where the published ones do, and the other way round. config.json names
remote code (``auto_map``) as the published ones do; that code is not shipped here, nor ever run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokswap.errors import CheckpointError
from tokswap.hypernet.config import HypernetConfig
from tokswap.hypernet.network import Hypernet

WORDS = "model.embeddings.word_embeddings.weight"
"""A table that RoBERTa has for its words; it is stored, and nothing reads it."""

IGNORED = (WORDS, "model.embeddings.position_ids", "model.embeddings.token_type_ids")
"""What may be stored and is not read: this table, and numbers that older files kept."""

WEIGHTS = "model.safetensors"

LAYOUT: Mapping[str, Any] = {
    "architectures": ["ZettHypernet"],
    "auto_map": {
        "AutoConfig": "configuration_hypernet.ZettHypernetConfig",
        "AutoModel": "modeling_hypernet.ZettHypernet",
    },
    "model_type": "zett_hypernetwork",
    "hn_model_name_or_path": "roberta-base",
    "hn_model_type": "roberta",
    "hn_embed_using_source_embeddings": True,
    "hn_concat_last_hidden_state": False,
    "hn_add_inter_token_attention": False,
    "hn_inter_token_attention_bias_by_priors": False,
    "hn_inter_token_attention_bias_by_source": False,
    "hn_embed_target_priors": False,
    "hn_language_adapter_bottleneck_dim": 0,
    "torch_dtype": "float32",
}
"""What config.json says of every hypernetwork, for the published code that reads it."""

NOT_CARRIED = (
    "dtype",
    "torch_dtype",
    "quantization_config",
    "transformers_version",
    "_name_or_path",
)
"""Settings of the base that would be wrong of the network."""


def stored_shapes(config: HypernetConfig) -> dict[str, tuple[int, ...]]:
    """List the shape of every stored tensor by its published name."""
    with torch.device("meta"):
        network = Hypernet(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return {WORDS: (config.pad_token_id + 1, config.hn_hidden_size), **shapes}


def published(network: Hypernet) -> dict[str, Tensor]:
    """Return a network's weights as they are stored: float32, on the CPU, by published names."""
    found = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
    }
    config = network.config
    return {WORDS: torch.zeros(config.pad_token_id + 1, config.hn_hidden_size), **found}


def fill(network: Hypernet, tensors: Mapping[str, Tensor], name: str) -> None:
    """Give a network its weights.

    Args:
        network: The network; one on the meta device takes the tensors as they are, in float32.
        tensors: Stored tensors by their published names.
        name: What messages call the checkpoint.

    Raises:
        CheckpointError: If a tensor is missing, has another shape, or belongs to no part of the
            network.
    """
    own = network.state_dict()
    for key, place in own.items():
        if key not in tensors:
            raise CheckpointError(
                f"{name} lacks the tensor {key!r}, which its config.json asks for; fetch it again"
            )
        if tensors[key].shape != place.shape:
            raise CheckpointError(
                f"{name}: {key!r} has shape {tuple(tensors[key].shape)}, and by its config.json "
                f"{tuple(place.shape)}; fetch it again"
            )
    if others := sorted(tensors.keys() - own.keys() - set(IGNORED)):
        raise CheckpointError(
            f"{name} holds {others[0]!r}, which belongs to no part of a hypernetwork with these "
            "settings; give one of the published kind"
        )
    found = {key: tensors[key].to(torch.float32) for key in own}
    network.load_state_dict(found, assign=any(place.is_meta for place in own.values()))


def save(
    folder: Path,
    network: Hypernet,
    *,
    base_config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    special: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write a network in the published layout into a folder that is there.

    Args:
        folder: Where to; see :func:`tokswap.checkpoint.target.staging` to write it whole or not
            at all.
        network: The network.
        base_config: The base's parsed config.json.
        tokenizer: The network's own tokenizer.json, from
            :func:`tokswap.hypernet.byte_level.byte_level`.
        special: Special tokens by their names in tokenizer_config.json (``bos_token`` ...).
        about: What is known of the base and the training, written under the key ``tokswap``.
    """
    from safetensors.torch import save_file

    carried = {key: value for key, value in base_config.items() if key not in NOT_CARRIED}
    settings = {**carried, **LAYOUT, **network.config.model_dump(), "tokswap": dict(about)}
    settings_of_tokenizer = {
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write(folder / "config.json", settings)
    _write(folder / "tokenizer.json", tokenizer)
    _write(folder / "tokenizer_config.json", settings_of_tokenizer)
    _write(folder / "special_tokens_map.json", special)
    save_file(published(network), folder / WEIGHTS, metadata={"format": "pt"})


def _write(path: Path, said: Mapping[str, Any]) -> None:
    text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
