"""Small random models of every family that the installed transformers has.

There is no configuration by hand for each: the default config of a family is shrunk by the names of
its settings. What a family needs besides stands in NEEDS; what cannot be built so is named.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto import modeling_auto

VOCAB = 6144
"""Tokens of the bundled tiny-llama, whose tokenizer all of them have."""

IDS = {"bos_token_id": 6141, "eos_token_id": 6142, "pad_token_id": 6143}
PICTURE = 100  # a token of text that no prompt holds

LARGEST = 3_000_000
"""Numbers in a model that is still called small."""

SIZES = [
    (
        32,
        "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim model_dim embed_dim "
        "emb_dim d_embed embedding_dim output_hidden_size input_hidden_size hidden_dim "
        "attention_hidden_size decoder_hidden_size encoder_hidden_size lru_width out_hidden_size "
        "input_embedding_size projection_dim text_hidden_size",
    ),
    (
        48,
        "intermediate_size ffn_dim n_inner d_ff dff d_inner ffn_hidden_size encoder_ffn_dim "
        "decoder_ffn_dim feed_forward_size dim_ff mlp_dim intermediate_dim ff_dim ffn_size "
        "block_ff_dim projection_size",
    ),
    (
        16,
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size q_lora_rank "
        "shared_intermediate_size moe_shared_expert_intermediate_size expert_dim kv_lora_rank "
        "intermediate_size_mlp moe_ffn_hidden_size o_lora_rank image_size",
    ),
    (
        2,
        "num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers depth "
        "num_decoder_layers num_encoder_layers num_blocks num_key_value_heads n_kv_heads "
        "num_kv_heads multi_query_group_num swa_num_key_value_heads num_global_key_value_heads "
        "num_experts_per_tok num_experts_per_token moe_top_k top_k moe_topk moe_k top_k_experts "
        "experts_per_token",
    ),
    (
        4,
        "num_attention_heads n_heads n_head num_heads encoder_attention_heads "
        "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
        "linear_num_value_heads linear_num_key_heads swa_num_attention_heads num_experts "
        "num_local_experts n_routed_experts moe_num_experts num_routed_experts n_experts "
        "hidden_size_per_layer_input num_attention_heads_per_layer vision_feature_layers",
    ),
    (
        8,
        "head_dim attention_head_dim kv_channels d_kv v_head_dim qk_head_dim linear_key_head_dim "
        "linear_value_head_dim global_head_dim swa_head_dim swa_v_head_dim index_head_dim "
        "attention_head_size qk_nope_head_dim qk_rope_head_dim rotary_dim patch_size",
    ),
    (1, "n_group topk_group num_expert_groups n_groups first_k_dense_replace"),
    (
        64,
        "max_position_embeddings n_positions max_seq_len max_sequence_length n_ctx "
        "max_target_positions max_source_positions context_length block_size seq_length "
        "sliding_window attention_window window_size attention_window_size",
    ),
]
SMALL = {name: size for size, names in SIZES for name in names.split()}

FULL = ["full_attention", "full_attention"]
FROM_PAD = """
roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl camembert data2vec-text prophetnet xglm
longformer esm ibert luke mpnet m2m_100
"""
POSITIONS = {"pad_token_id": 1}  # positions are counted from it
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
NEEDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(FROM_PAD.split(), POSITIONS),
    "bailing_hybrid": {"num_hidden_layers": 8},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "cohere_compass_text": {"num_hidden_layers": 4},
    "gemma3n_text": {
        "num_kv_shared_layers": 0, "laurel_rank": 2, "layer_types": FULL,
        "activation_sparsity_pattern": [0.0, 0.0], "altup_num_inputs": 2,
        "intermediate_size": 48, "vocab_size_per_layer_input": 6144 - 44, "pad_token_id": 0,
    },
    "gemma4_text": {
        "vocab_size_per_layer_input": VOCAB, "layer_types": FULL, "num_kv_shared_layers": 0,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"],
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"num_hidden_layers": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"num_hidden_layers": 4},
    "mamba2": {"num_heads": 8},
    "longcat_flash": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2},
    "qwen2_vl_text": MROPE,
    "qwen2_5_vl_text": MROPE,
    "qwen3_5_moe_text": {"num_hidden_layers": 4},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_next": {"num_hidden_layers": 4},
    "qwen4_exp_text": {"num_hidden_layers": 4},
    "rembert": {"output_embedding_size": 16, "input_embedding_size": 16},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True, "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8),
        "attn_layers": ["local", "local"],
    },
    "roc_bert": {
        "pronunciation_embed_dim": 8, "pronunciation_vocab_size": 9, "shape_embed_dim": 8,
        "shape_vocab_size": 9, "pad_token_id": 0,
    },
    "xlstm": {"num_heads": 4, "qk_dim_factor": 1.0, "v_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX", **POSITIONS},
    "zamba": {"layer_types": ["mamba", "hybrid"]},
    "zamba2": {"layer_types": ["mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def small_config(kind: type[PretrainedConfig], **more: Any) -> dict[str, Any]:
    """Shrink the settings of a config class, and those of the configs in it."""
    said: dict[str, Any] = {}
    made = kind()
    for key, value in vars(made).items():
        if isinstance(value, PretrainedConfig):
            inner = small_config(type(value), **NEEDS.get(value.model_type, {}))
            said[key] = {**inner, "model_type": value.model_type}
        elif key == "vocab_size":
            said[key] = VOCAB
        elif key in IDS:
            said[key] = IDS[key]
        elif re.search(r"_token_(id|index)$", key) and type(value) is int:
            said[key] = IDS["bos_token_id"] if "start" in key else PICTURE
        elif key in {"head_dim", "qk_head_dim"} and hasattr(made, "qk_rope_head_dim"):
            continue  # latent attention makes it of other sizes
        elif key == "num_key_value_heads" and hasattr(made, "qk_rope_head_dim"):
            said[key] = SMALL["num_attention_heads"]
        elif key in SMALL and type(value) is int:
            said[key] = SMALL[key]
    return {**said, **more}


def build(model_type: str, class_name: str) -> Any:
    """Build a small random model.

    Raises:
        ValueError: If it would not be small.
    """
    config = small_config(CONFIG_MAPPING[model_type], **NEEDS.get(model_type, {}))
    made: Any = CONFIG_MAPPING[model_type](**config)
    kind: Any = getattr(transformers, class_name)
    with torch.device("meta"):
        tensors = dict(kind._from_config(made).named_parameters())
    if sum(tensor.numel() for tensor in tensors.values()) > LARGEST:
        largest = max(tensors, key=lambda name: tensors[name].numel())
        raise ValueError(f"{largest} {tuple(tensors[largest].shape)} is not small")
    torch.manual_seed(0)
    made = CONFIG_MAPPING[model_type](**config)
    model = kind._from_config(made).eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("bias") and tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.1)  # zeros would hide what becomes of them
    return model


@dataclass(frozen=True)
class Family:
    """A type of model, and the class that is built of it."""

    model_type: str
    class_name: str

    def build(self) -> Any:
        return build(self.model_type, self.class_name)


NAMED = """
llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3_text gemma3n_text phi phi3
gpt2 gpt_neox opt bloom falcon starcoder2 cohere granite olmo olmo2 olmo3 smollm3 deepseek_v2
deepseek_v3 glm4 nemotron minicpm3 mamba rwkv
"""
"""Decoders that must work."""

MORE = """
cohere2 gemma4_text gpt_bigcode gpt_neo gpt_oss gptj granitemoe llama4_text mamba2 mpt olmoe
qwen3_next recurrent_gemma stablelm xglm xlnet
"""
"""Decoders with something of their own: biases, other heads, other names, state-space layers."""

OTHERS = {
    "MASKED_LM": "bert roberta xlm-roberta albert distilbert electra deberta-v2 modernbert",
    "IMAGE_TEXT_TO_TEXT": "gemma3 llava qwen2_vl qwen2_5_vl qwen3_vl mistral3 idefics3 smolvlm",
    "SEQ_TO_SEQ_CAUSAL_LM": "t5 bart",
}
"""Models of other kinds, by the kind."""


def _of(kind: str, names: str | None = None) -> list[Family]:
    mapping = getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES")
    classes = {name: c if isinstance(c, str) else c[0] for name, c in mapping.items()}
    return [Family(name, classes[name]) for name in (names.split() if names else classes)]


DEFAULT = [
    *_of("CAUSAL_LM", NAMED + MORE),
    *(family for kind, names in OTHERS.items() for family in _of(kind, names)),
]
"""The families of every test run."""

REST = [f for kind in ("CAUSAL_LM", *OTHERS) for f in _of(kind) if f not in DEFAULT]
REST = list(dict.fromkeys(REST))
"""All others, which are tried when the list in docs/families.md is made."""
