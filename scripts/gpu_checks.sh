#!/bin/bash
# What several ranks, the comparison of instructions and the corpus do on one GPU; one part a call, each under 3 minutes of
# an H200 (expected, not measured): ranks 90 s, run 60 s, arms 150 s, corpus 150 s. `run` comes before `arms` and `corpus`,
# which writes its default of 4 candidates.
#   BASE=models/smollm2-135m DATA=dolly-6k.jsonl WORK=/tmp/checks scripts/gpu_checks.sh ranks|run|arms|corpus
# SCALE=tiny for a rehearsal on a CPU.
set -euo pipefail
part=$1
base=${BASE:-models/smollm2-135m} data=${DATA:?rows with instruction and response} work=${WORK:-/tmp/checks}
seq=2048 rows_per_step=4 seen=2000 texts=20000 heldout=400 steps=100
if [ "${SCALE:-}" = tiny ]; then seq=384 rows_per_step=2 seen=40 texts=20 heldout=6 steps=2; fi
mkdir -p "$work"
start=$(date +%s)

case $part in
ranks)
  python3 scripts/check_ranks.py --base "$base" --seq_len "$((seq / 4))" --steps 4 ;;
run)
  head -n "$seen" "$data" > "$work/seen.jsonl"
  python3 -m revinst.cli fit --config configs/smollm2-dolly.yaml --runs_dir "$work" --run_name backward \
    --model.base "$base" --data.source "$work/seen.jsonl" --data.seq_len "$seq" --data.rows_per_step "$rows_per_step" \
    --trainer.max_steps "$steps" --samples.every_steps 0 --trainer.enable_progress_bar false ;;
arms)
  python3 -m scripts.purpose "$work/arms" --data "$data" --backward "$work/backward" --runs "$work/forward" \
    --stages one --seeds 42 --heldout "$heldout" --val "$heldout" --samples 4 \
    --forward_args "--model.base $base --data.seq_len $seq --data.rows_per_step $rows_per_step" ;;
corpus)
  python3 - "$data" "$work/texts.jsonl" "$texts" <<'P'
import json, sys
responses = [json.loads(line)["response"] for line in open(sys.argv[1], encoding="utf-8")]
with open(sys.argv[2], "w", encoding="utf-8") as out:
    for number in range(int(sys.argv[3])):  # two responses each, so that no text comes twice
        first, turn = number % len(responses), number // len(responses)
        text = responses[first] + ("\n\n" + responses[(7 * first + turn) % len(responses)] if turn else "")
        out.write(json.dumps({"text": text[:3000]}) + "\n")
P
  time python3 -m revinst.cli corpus "$work/texts.jsonl" "$work/own" --run "$work/backward" --max_new_tokens 48 ;;
*) echo "usage: $0 ranks|run|arms|corpus" >&2; exit 2 ;;
esac
echo "$part: $(($(date +%s) - start)) s"
