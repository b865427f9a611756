"""Direct Preference Optimization in Python on a toy model that is built here: offline, in less than a minute.

    python examples/dpo.py [OUTPUT]

For your own model and data, pass `DPOTrainer` the model, its tokenizer, and a dataset with the columns prompt, chosen
and rejected, or the path of a folder prepared by `dpo-data convert`.
"""

import sys

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from dpo_train import DPOTrainer

dpo_dataset_dict = {
    "prompt": [
        "hello",
        "how are you",
        "What is your name?",
        "What is your name?",
        "Which is the best programming language?",
        "Which is the best programming language?",
        "Which is the best programming language?",
    ],
    "chosen": [
        "hi nice to meet you",
        "I am fine",
        "My name is Mary",
        "My name is Mary",
        "Python",
        "Python",
        "Java",
    ],
    "rejected": [
        "leave me alone",
        "I am not fine",
        "Whats it to you?",
        "I dont have a name",
        "Javascript",
        "C++",
        "C++",
    ],
}


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, and an end-of-sequence token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def toy_model(vocab_size: int) -> LlamaForCausalLM:
    """Return a Llama with two layers and random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=256,
    )
    return LlamaForCausalLM(config)


def main(output: str) -> None:
    tokenizer = toy_tokenizer()
    model, model_ref = toy_model(len(tokenizer)), toy_model(len(tokenizer))
    train_dataset = Dataset.from_dict(dpo_dataset_dict)
    training_args = TrainingArguments(
        output, max_steps=40, per_device_train_batch_size=7, learning_rate=1e-3, logging_steps=10, save_strategy="no"
    )

    dpo_trainer = DPOTrainer(
        model,
        model_ref,
        args=training_args,
        beta=0.1,
        train_dataset=train_dataset,
        eval_dataset=train_dataset,
        tokenizer=tokenizer,
    )
    before = dpo_trainer.evaluate()
    dpo_trainer.train()
    after = dpo_trainer.evaluate()
    dpo_trainer.save_model()

    for name in ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected"):
        print(f"{name:20} {before[f'eval_{name}']:8.4f} -> {after[f'eval_{name}']:8.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dpo-example")
