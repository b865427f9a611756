"""Time of `encode_batch_fast` alone over prompts, chosen and rejected: the limit of any preparation."""

import argparse
import json
import time
from pathlib import Path

from tokenizers import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help=".jsonl of prompt, chosen and rejected")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with a tokenizer.json")
    parser.add_argument("--batch-pairs", type=int, default=1_000)
    options = parser.parse_args()

    pairs = [json.loads(line) for line in options.pairs.open(encoding="utf-8")]
    texts = [pair[field] for pair in pairs for field in ("prompt", "chosen", "rejected")]
    step = 3 * options.batch_pairs
    batches = [texts[first : first + step] for first in range(0, len(texts), step)]
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    start = time.perf_counter()
    for batch in batches:
        tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    print(json.dumps({"rows": len(pairs), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
