"""What is the smallest sensible configuration of an architecture?

Sizes are shrunk by the names that configurations have for them; an architecture whose sizes hang together otherwise has
a line of its own.
"""

from __future__ import annotations

from typing import Any

from tests.pipelines.model_folders import LABELS, vocabulary

WIDTH, HEADS, LAYERS, POSITIONS = 32, 4, 2, 64

SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "dim", "n_embd", "emb_dim", "embedding_size", "word_embed_proj_dim", "encoder_dim"),
        WIDTH,
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), HEADS),
    **dict.fromkeys(("decoder_attention_heads", "num_encoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("head_dim", "d_head", "d_kv", "v_head_dim", "attention_head_size", "kv_channels"), WIDTH // HEADS),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), LAYERS),
    **dict.fromkeys(("intermediate_size", "d_inner", "d_ff", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("ffn_dim", "ffn_hidden_size", "dff", "moe_intermediate_size", "n_inner"), 64),
    **dict.fromkeys(("shared_expert_intermediate_size",), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_source_positions"), POSITIONS),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), WIDTH // HEADS),
    "sliding_window": 16,
    "initializer_range": 0.2,
    "init_std": 0.2,
}
"""The usual names of sizes, and what they become."""

SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_EVERY_HEAD = {"num_key_value_heads": HEADS}
_LINEAR: dict[str, Any] = {
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), WIDTH // HEADS),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), HEADS),
    "layer_types": ["linear_attention", "full_attention"],
}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "esmc", "minicpm3", "mistral4"), _EVERY_HEAD),
    **dict.fromkeys(("qwen3_5_text", "qwen3_next"), _LINEAR),
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": WIDTH // HEADS},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "markuplm": {"max_depth": 4, "xpath_unit_hidden_size": 8},
    "mistral4": {**_EVERY_HEAD, "head_dim": 16},
    "perceiver": {
        "d_latents": WIDTH,
        "num_latents": 8,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": HEADS,
        "num_cross_attention_heads": HEADS,
    },
    "qwen3_5": {"text_config": _LINEAR, "vision_config": {"out_hidden_size": WIDTH, "depth": 1}},
    "reformer": {
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "local"],
        "feed_forward_size": 64,
        "local_attn_chunk_length": 8,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 16,
        "pronunciation_vocab_size": 200,
        "shape_embed_dim": 16,
        "shape_vocab_size": 200,
    },
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 4,
        "layer_types": ["mamba", "hybrid"] * 2,
        "mamba_dt_rank": 4,
        "attention_hidden_size": 2 * WIDTH,
        "attention_head_dim": 2 * WIDTH // HEADS,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "mamba_headdim": 8,
        "attention_hidden_size": 2 * WIDTH,
        "attention_head_dim": 2 * WIDTH // HEADS,
        "use_mamba_kernels": False,
    },
}
"""Architectures whose sizes hang together otherwise."""


def shrunken(model_type: str) -> Any:
    """The configuration of a tiny classifier with the labels and the vocabulary of the tests."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    own = OWN.get(model_type, {})
    settings = _small(kind().to_dict(), own)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
    return kind(**{**settings, **labels})


def _small(default: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The settings that are made smaller, in nested configurations too."""
    wanted = {**SIZES, **SPECIAL_TOKENS, "vocab_size": len(vocabulary())}
    found = {key: value for key, value in wanted.items() if key in default}
    inner = {
        key: _small(value, own.get(key, {}))
        for key, value in default.items()
        if isinstance(value, dict) and "model_type" in value
    }
    return {**found, **own, **inner}
