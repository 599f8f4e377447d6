"""What a training begins with: the network for a base, its tokenizer, and what is said of both."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokswap.errors import TrainingError
from tokswap.hypernet.byte_level import byte_level
from tokswap.hypernet.config import HypernetConfig
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.surface import SurfaceForms
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.recipe import TrainRecipe
from tokswap.hypernet.training.rescaling import set_rescalers
from tokswap.vocabulary.identity import content_hash
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

PADDING = ("pad", "eos", "bos", "sep", "cls", "unk")
"""Roles whose token may stand behind a token's pieces, for it is never one of them."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A new network and what belongs to it.

    Attributes:
        network: The network, its first weights drawn by the recipe's seed.
        forms: Cuts tokens into the pieces that it reads.
        layout: What :func:`~tokswap.hypernet.stored.save` is told beside the network.
    """

    network: Hypernet
    forms: SurfaceForms
    layout: Mapping[str, Any]


def begin(recipe: TrainRecipe, base: FrozenBase) -> Begun:
    """Make a network for a base.

    Args:
        recipe: The training.
        base: What it is trained through.

    Raises:
        TrainingError: If the base has no positions for texts of that length.
    """
    if base.limit is not None and recipe.length > base.limit:
        raise TrainingError(
            f"length: {recipe.length} tokens are more than the {base.limit} that "
            f"{base.checkpoint.name} has positions for; give fewer"
        )
    vocabulary = base.checkpoint.vocabulary
    specification, added = byte_level(vocabulary)
    pad = next((vocabulary.roles[r] for r in PADDING if r in vocabulary.roles), None)
    if pad is None:  # a row of the network's own stands for it
        pad, added = len(vocabulary) + added, added + 1
    config = _config(recipe, base, pad=pad, added=added)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = Hypernet(config, generator=generator).to(base.source.device)
    set_rescalers(network, base.source)
    roles = {f"{role}_token": vocabulary.strings[n] for role, n in vocabulary.roles.items()}
    layout = {
        "base_config": base.checkpoint.config,
        "tokenizer": specification,
        "special": roles,
        "about": {
            "base": {"name": base.checkpoint.name, "sha256": content_hash(vocabulary)},
            "training": recipe.deciding(),
        },
    }
    own = _read(specification, f"the byte-level tokenizer of {base.checkpoint.name}")
    return Begun(network, SurfaceForms(own, config), layout)


def _config(recipe: TrainRecipe, base: FrozenBase, *, pad: int, added: int) -> HypernetConfig:
    said = recipe.network
    heads = said.heads or max((said.width or base.width) // 64, 1)
    if said.width and not said.heads:
        heads = next(count for count in range(heads, 0, -1) if said.width % count == 0)
    width = said.width or -(-base.width // heads) * heads
    languages = recipe.languages
    return HypernetConfig(
        n_embd=base.width,
        hn_hidden_size=width,
        hn_intermediate_size=said.inner or 2 * width,
        hn_n_layers=said.layers,
        hn_num_attention_heads=heads,
        hn_surface_maxlen=said.pieces,
        hn_rescale_embeddings=True,
        hn_predict_bias="bias" in base.names,
        hn_embed_lang_id=bool(languages),
        n_langs=len(languages) or None,
        langs=languages or None,
        hn_n_extra_tokens=added,
        original_vocab_size=len(base.source),
        pad_token_id=pad,
        separate_out_embeddings=not base.tied,
    )


def _read(specification: Mapping[str, Any], name: str) -> Vocabulary:
    import json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(specification), encoding="utf-8")
        return load_vocabulary({path.name: path}, name=name)
