#!/usr/bin/env bash
# The complete pipeline on the embedded sample, offline: from raw rows to a model trained with DPO.
#     bash examples/demo.sh FOLDER
set -euo pipefail
here=$(dirname "$0")
out=${1:-demo}
export HF_HUB_OFFLINE=1

step() {
    if [[ -t 1 ]]; then printf '\n\033[1m$ %s\033[0m\n' "$*"; else printf '\n$ %s\n' "$*"; fi
    "$@"
}

mkdir -p "$out"
step dpo-data convert hh-rlhf --sample --output "$out/prepared" --overwrite
step dpo-data validate "$out/prepared"
step dpo-data report "$out/prepared"
step python "$here/tiny_model.py" "$out/prepared" "$out/tiny-model"
step dpo-data tokenize "$out/prepared" --tokenizer "$out/tiny-model" --max-length 256
step dpo-train --data "$out/prepared" --model "$out/tiny-model" --output "$out/run" --overwrite \
    --max-length 256 --batch-size 32 --max-steps 30 --learning-rate 1e-3

cat <<END

What you have now:
  $out/prepared             the pairs: datasets.load_from_disk("$out/prepared")
  $out/prepared/quarantine  raw rows that were not kept, each with its reason
  $out/prepared/report.html a report on the pairs, for a browser
  $out/prepared/tokens      truncated token ids, which training uses unchanged
  $out/run                  the trained model: AutoModelForCausalLM.from_pretrained("$out/run")
  $out/run/report.html      metrics before and after training, curves, worst pairs
END
