"""Time that TRL's DPOTrainer takes to prepare a .jsonl of prompt, chosen and rejected.

Runs in the peers' environment. Only `DPOTrainer._prepare_dataset` is timed: end-of-sequence texts and tokenization,
each a `datasets.map` over `dataset_num_proc` processes. Reading the file and building the (tiny) model are not
included.
"""

import argparse
import json
import time

from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer


class TimedDPOTrainer(DPOTrainer):
    prepare_s = 0.0

    def _prepare_dataset(self, *args, **kwargs):
        start = time.perf_counter()
        prepared = super()._prepare_dataset(*args, **kwargs)
        self.prepare_s += time.perf_counter() - start
        return prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True, help=".jsonl of prompt, chosen and rejected")
    parser.add_argument("--tokenizer", required=True, help="folder of the tokenizer")
    parser.add_argument("--scratch", required=True, help="empty folder for the datasets cache")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    options = parser.parse_args()

    pairs = Dataset.from_json(options.pairs, cache_dir=options.scratch)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    trainer = TimedDPOTrainer(
        model=LlamaForCausalLM(shape),
        ref_model=LlamaForCausalLM(shape),
        # keep_end, as in dpo-data; keep_start would cost TRL one more pass, a filter.
        args=DPOConfig(
            output_dir=options.scratch,
            max_length=options.max_length,
            truncation_mode="keep_end",
            dataset_num_proc=options.workers,
            report_to="none",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    print(json.dumps({"rows": len(trainer.train_dataset), "seconds": trainer.prepare_s}))


if __name__ == "__main__":
    main()
