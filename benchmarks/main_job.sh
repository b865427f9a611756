#!/usr/bin/env bash
# The main job on real rows with a real model, every command with its wall time:
#     bash benchmarks/main_job.sh RAW_FILE MODEL_FOLDER SCRATCH > benchmarks/results/main_job_<machine>_<yyyymm>.txt
set -euo pipefail
raw=$1 model=$2 scratch=$3
export TIMEFORMAT='[%R s wall, %U s user]' HF_HUB_OFFLINE=1

step() {
    printf '\n$ %s\n' "$*"
    time "$@" 2>&1
}

step dpo-data convert hh-rlhf --input "$raw" --output "$scratch/prepared" --test-fraction 0.01
step dpo-data validate "$scratch/prepared" --tokenizer "$model"
step dpo-data tokenize "$scratch/prepared" --tokenizer "$model" --max-length 512 --max-prompt-length 128
step dpo-data tokenize "$scratch/prepared" --tokenizer "$model" --max-length 512 --max-prompt-length 128
step dpo-train --data "$scratch/prepared" --model "$model" --output "$scratch/run" \
    --batch-size 4 --max-steps 6 --learning-rate 5e-6 --logging-steps 2
