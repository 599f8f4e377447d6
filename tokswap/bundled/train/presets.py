"""What the two bundled models are: their shapes, their tokenizers, their special tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from tokswap.bundled.train.corpus import Document
from tokswap.bundled.train.tokenizer import train_byte_level, train_sentencepiece


@dataclass(frozen=True)
class Preset:
    """One of the two models.

    Attributes:
        name: The name of its folder.
        description: What it is, for the model card.
        config: Its configuration's class.
        model: Its model's class.
        shape: The settings of the configuration.
        vocab_size: The size of its vocabulary.
        train_tokenizer: Makes the content of `tokenizer.json` from files and a vocabulary size.
        special: The special tokens, by their names in `tokenizer_config.json`.
    """

    name: str
    description: str
    config: Callable[..., PreTrainedConfig]
    model: Callable[[Any], PreTrainedModel]
    shape: dict[str, Any]
    vocab_size: int
    train_tokenizer: Callable[[tuple[Document, ...], int], dict[str, Any]]
    special: dict[str, str]


# Together with their tokenizers the two have to stay below 8 MB in bfloat16, and about half of
# either goes to its vocabulary: 1.9 million parameters each.
TINY_LLAMA = Preset(
    name="tiny-llama",
    description=(
        "Llama, width 128, 5 layers, tied embeddings; byte-level BPE in the form of Llama 3's, "
        "trained on the library's code without its docstrings"
    ),
    config=LlamaConfig,
    model=LlamaForCausalLM,
    shape={
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "tie_word_embeddings": True,
    },
    vocab_size=6144,
    train_tokenizer=train_byte_level,
    special={
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
    },
)
TINY_MISTRAL = Preset(
    name="tiny-mistral",
    description=(
        "Mistral, width 144, 4 layers, 6 query and 2 key-value heads, untied embeddings; BPE with "
        "byte fallback in the form of Llama 2's, trained on the library's documentation"
    ),
    config=MistralConfig,
    model=MistralForCausalLM,
    shape={
        "hidden_size": 144,
        "intermediate_size": 272,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "tie_word_embeddings": False,
        "sliding_window": None,
    },
    vocab_size=4096,
    train_tokenizer=train_sentencepiece,
    special={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
)
PRESETS = {preset.name: preset for preset in (TINY_LLAMA, TINY_MISTRAL)}
