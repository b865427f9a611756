"""Tiny random models, a chat tokenizer and datasets under the Hub names that TRL's tests load.

A folder `trl-internal-testing/tiny-X` in the working directory is what `from_pretrained("trl-internal-testing/tiny-X")`
loads, and a folder with a README.md that lists configurations is what `load_dataset` loads, so nothing is patched.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Cohere2Config,
    Glm4MoeConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    Lfm2Config,
    LlamaConfig,
    LlamaForCausalLM,
    NemotronHConfig,
    Olmo3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3MoeConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

#: A ChatML template with tools, tool calls and an optional block of reasoning.
TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\ntools: ' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.thinking %}{{ '(' + message.thinking + ')\n' }}{% endif %}"
    "{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

THINGS = (
    "bread", "rain", "a map", "the sea", "chess", "a violin", "salt", "a bicycle", "the moon", "wool", "a lighthouse",
    "cheese", "ice", "a letter", "the harbor", "honey", "a clock", "snow", "paper",
)  # fmt: skip
COMMON = {"hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
LAYERS = COMMON | {"num_hidden_layers": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {
    "mamba_num_heads": 8, "mamba_head_dim": 4, "mamba_n_groups": 1, "ssm_state_size": 16, "mamba_d_conv": 4,
    "mamba_expand": 2, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32, "use_mamba_kernels": False,
}  # fmt: skip

CONFIGS: dict[str, Callable[..., Any]] = {
    "Cohere2ForCausalLM": lambda **k: Cohere2Config(**LAYERS, logit_scale=1.0, **k),
    "Glm4MoeForCausalLM": lambda **k: Glm4MoeConfig(
        **LAYERS, head_dim=2, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, **k
    ),
    "GptOssForCausalLM": lambda **k: GptOssConfig(**LAYERS, num_local_experts=4, num_experts_per_tok=2, **k),
    "Qwen2ForCausalLM-2.5": lambda **k: Qwen2Config(**LAYERS, **k),
    "Qwen3MoeForCausalLM": lambda **k: Qwen3MoeConfig(**LAYERS, **EXPERTS, head_dim=8, **k),
    "NemotronHForCausalLM-nano": lambda **k: NemotronHConfig(
        **COMMON | {"hidden_size": 16}, layers_block_type=["mamba", "attention", "moe"], **MAMBA, **k
    ),
    "Olmo3ForCausalLM": lambda **k: Olmo3Config(**LAYERS, **k),
    "Lfm2ForCausalLM": lambda **k: Lfm2Config(**LAYERS, full_attn_idxs=[1], block_multiple_of=8, **k),
    "Lfm2ForCausalLM-2.5": lambda **k: Lfm2Config(**LAYERS, full_attn_idxs=[1], block_multiple_of=8, **k),
}

REMOTE_CODE = """\
from transformers import LlamaConfig, LlamaForCausalLM


class RemoteConfig(LlamaConfig):
    model_type = "remote"


class RemoteForCausalLM(LlamaForCausalLM):
    config_class = RemoteConfig
"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with the special tokens of ChatML."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([json.dumps(rows) for rows in datasets().values()], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def datasets() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rows of each dataset and configuration; the last two of 19 are the test split."""
    texts = [(f"What do you like about {thing}?", f" I like {thing} a lot.", f" {thing} is dull.") for thing in THINGS]
    chats = []
    for prompt, chosen, rejected in texts:
        user = [{"role": "user", "content": prompt}]
        answers = [[{"role": "assistant", "content": text.strip()}] for text in (chosen, rejected)]
        chats.append((user, *answers))
    names = ("prompt", "chosen", "rejected")
    thinking = [
        {
            "prompt": prompt,
            "chosen": [{**chosen[0], "thinking": "Be kind."}],
            "rejected": [{**rejected[0], "thinking": "Be brief."}],
            "chat_template_kwargs": {"reasoning_effort": ("low", "high")[row % 2]},
        }
        for row, (prompt, chosen, rejected) in enumerate(chats)
    ]
    return {
        ("zen", "standard_preference"): [dict(zip(names, row, strict=True)) for row in texts],
        ("zen", "standard_implicit_prompt_preference"): [
            {"chosen": prompt + chosen, "rejected": prompt + rejected} for prompt, chosen, rejected in texts
        ],
        ("zen", "conversational_preference"): [dict(zip(names, row, strict=True)) for row in chats],
        ("zen", "conversational_implicit_prompt_preference"): [
            {"chosen": prompt + chosen, "rejected": prompt + rejected} for prompt, chosen, rejected in chats
        ],
        ("zen", "standard_unpaired_preference"): [
            {"prompt": prompt, "completion": chosen, "label": True} for prompt, chosen, _ in texts
        ],
        ("harmony", "preference"): thinking,
        ("toolcall", "preference"): [tool_pair(thing) for thing in THINGS[:9]],
    }


def tool_pair(thing: str) -> dict[str, Any]:
    """Return a pair whose chosen response calls a tool with the right argument, and its answer."""

    def calls(item: str) -> list[dict[str, Any]]:
        function = {"name": "find", "arguments": {"item": item}}
        return [
            {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]},
            {"role": "tool", "name": "find", "content": f"{item}: shelf 3"},
            {"role": "assistant", "content": f"You find {item} on shelf 3."},
        ]

    item = {"type": "string", "description": "What to look for."}
    function = {
        "name": "find",
        "description": "Find an item.",
        "parameters": {"type": "object", "properties": {"item": item}, "required": ["item"]},
    }
    return {
        "prompt": [{"role": "user", "content": f"Where is {thing}?"}],
        "chosen": calls(thing),
        "rejected": calls("nothing"),
        "tools": [{"type": "function", "function": function}],
    }


def write_models(folder: Path) -> None:
    """Write the models and their tokenizer below a folder, with weights of normal distribution and scale 0.02."""
    tokenizer = make_tokenizer()
    ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, make in CONFIGS.items():
        torch.manual_seed(0)
        config = make(**ids)
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        model.save_pretrained(folder / f"tiny-{name}")
        tokenizer.save_pretrained(folder / f"tiny-{name}")
    write_remote_model(folder / "tiny-RemoteForCausalLM", tokenizer, ids)
    write_old_models(folder, tokenizer, ids)


def write_old_models(folder: Path, tokenizer: Any, ids: dict[str, Any]) -> None:
    """Write the models of TRL 0.7's tests."""
    small = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    old = {
        folder / "dummy-GPT2-correct-vocab": GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2, **ids)),
        folder / "tiny-T5ForConditionalGeneration-correct-vocab": T5ForConditionalGeneration(
            T5Config(**small, **ids, decoder_start_token_id=ids["pad_token_id"])
        ),
        folder.parent / "HuggingFaceM4" / "tiny-random-LlamaForCausalLM": LlamaForCausalLM(
            LlamaConfig(**LAYERS, **ids)
        ),
    }
    for path, model in old.items():
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)


def write_remote_model(folder: Path, tokenizer: Any, ids: dict[str, Any]) -> None:
    """Write a Llama whose classes are in the folder of the model, as remote code."""
    config = LlamaConfig(**LAYERS, **ids)
    MODEL_FOR_CAUSAL_LM_MAPPING[LlamaConfig](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "modeling_remote.py").write_text(REMOTE_CODE, encoding="utf-8")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classes = {
        "AutoConfig": "modeling_remote.RemoteConfig",
        "AutoModelForCausalLM": "modeling_remote.RemoteForCausalLM",
    }
    settings |= {"model_type": "remote", "architectures": ["RemoteForCausalLM"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def write_datasets(folder: Path) -> None:
    """Write the datasets as JSON Lines, with a README.md that lists their configurations and splits."""
    described: dict[str, list[str]] = {}
    for (name, config), rows in datasets().items():
        lines = described.setdefault(name, [])
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, part in (("train", rows[:-2]), ("test", rows[-2:])):
            path = folder / name / config / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
            lines += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
    for name, lines in described.items():
        (folder / name / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]), encoding="utf-8")
