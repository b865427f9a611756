"""Time of `convert` and `tokenize` called from Python, after a warm-up on a few rows that pays for lazy imports."""

import argparse
import cProfile
import io
import json
import pstats
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", required=True, help="hh-rlhf .jsonl")
    parser.add_argument("--warm-up", required=True, help="small hh-rlhf .jsonl")
    parser.add_argument("--tokenizer", required=True, help="folder of the tokenizer")
    parser.add_argument("--scratch", type=Path, required=True, help="empty folder for the prepared data")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--max-prompt-length", type=int, required=True)
    parser.add_argument("--profile", action="store_true", help="profile one process instead of timing")
    options = parser.parse_args()
    seconds = {}
    start = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage] = now - start
        start = now

    from transformers import AutoTokenizer

    from dpo_data import convert, tokenize

    lap("imports")

    def make_tokens(prepared: Path) -> None:
        tokenize(
            prepared,
            tokenizer=options.tokenizer,
            max_length=options.max_length,
            max_prompt_length=options.max_prompt_length,
            truncation_mode="keep_end",
        )

    warm = options.scratch / "warm"
    convert("hh-rlhf", [options.warm_up], output=warm, workers=options.workers)
    make_tokens(warm)
    prepared = options.scratch / "prepared"

    if options.profile:
        with cProfile.Profile() as profile:
            convert("hh-rlhf", [options.raw], output=prepared, workers=1)
            make_tokens(prepared)
        text = io.StringIO()
        pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(25)
        print(json.dumps({"profile": text.getvalue()}))
        return

    AutoTokenizer.from_pretrained(options.tokenizer)
    lap("warm-up")
    AutoTokenizer.from_pretrained(options.tokenizer)
    lap("tokenizer load")
    convert("hh-rlhf", [options.raw], output=prepared, workers=options.workers)
    lap("convert")
    make_tokens(prepared)
    lap("tokenize")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
