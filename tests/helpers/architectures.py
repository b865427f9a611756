"""Tiny random models of many architectures."""

from typing import Any

import torch
import transformers
from toys import VOCAB_SIZE

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 257,
    "eos_token_id": 256,
    "bos_token_id": None,
}
SMALL_GPT2 = {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

#: Name -> configuration class and its arguments; the window of 4 is shorter than most sequences of the tests.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", COMMON),
    "llama_tied": ("LlamaConfig", COMMON | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", COMMON),
    "qwen3": ("Qwen3Config", COMMON),
    "mistral_window": ("MistralConfig", COMMON | {"sliding_window": 4}),
    "gemma2_softcap": ("Gemma2Config", COMMON | {"sliding_window": 4, "final_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3TextConfig", COMMON | {"sliding_window": 4}),
    "gpt2": ("GPT2Config", SMALL_GPT2),
    "gpt_neox": ("GPTNeoXConfig", COMMON),
    "olmo2": ("Olmo2Config", COMMON),
    "phi3": ("Phi3Config", COMMON),
    "granite_scaled": ("GraniteConfig", COMMON | {"logits_scaling": 4.0}),
    "qwen3_moe": ("Qwen3MoeConfig", COMMON | EXPERTS),
    "mixtral": ("MixtralConfig", COMMON | {"num_local_experts": 4}),
    "mamba": ("MambaConfig", {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "gpt_oss_sinks": ("GptOssConfig", COMMON | {"num_local_experts": 4, "sliding_window": 4}),
    "deepseek_v3_narrow_values": (
        "DeepseekV3Config",
        COMMON
        | {
            "num_key_value_heads": 4,
            "first_k_dense_replace": 2,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 12,
        },
    ),
    "cohere2_window": ("Cohere2Config", COMMON | {"sliding_window": 4}),
}


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config_class, settings = MODELS[name]
    model_config = getattr(transformers, config_class)(**settings | {"initializer_range": 0.1} | options)
    return transformers.AutoModelForCausalLM.from_config(model_config)
