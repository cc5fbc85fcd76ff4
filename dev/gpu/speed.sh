#!/bin/bash
# One GPU: speed.sh lean | long TOKENS | gemma | small (beside Unsloth, which PEERS=1 packs) | configs | writing | few.
. "$(dirname "$0")/common.sh"
export UNSLOTH_COMPILE_LOCATION="$OUT/unsloth"  # two of them at once would write to one folder
turns=("$python" scripts/bench_turns.py --tokenizer "$tokenizer" --source "$rows")
case $1 in
lean)
  timeout 320 "${turns[@]}" --base llama2-7b --rounds 6 --steps 1 --timeout_s 310 --out "$OUT/lean.json" \
    ${CONTENDERS:-unsloth=unsloth lean=lean fp8=lean-fp8 four=lean-fp8-four} | tee "$OUT/lean.txt" ;;
long)
  length=$2
  timeout 320 "${turns[@]}" --base llama3.1-8b --seq_len "$length" --rounds 6 --steps 1 --peer_batch 4 --timeout_s 310 \
    --out "$OUT/long-$length.json" unsloth=unsloth lean=lean fast=fast-70gib | tee "$OUT/long-$length.txt" ;;
gemma)
  timeout 320 "${turns[@]}" --base gemma3-4b --config configs/gemma3-4b.yaml --rounds 6 --steps 1 --timeout_s 310 \
    --out "$OUT/gemma.json" unsloth=unsloth-no-checkpointing fast=fast | tee "$OUT/gemma.txt" ;;
small)
  timeout 320 "${turns[@]}" --base "$smollm2" --config configs/smollm2-dolly.yaml --rounds 6 --steps 8 --timeout_s 310 \
    --out "$OUT/small.json" ${CONTENDERS:-unsloth=unsloth-no-checkpointing fast=fast backward=fast-fp8-backward} | tee "$OUT/small.txt" ;;
configs)
  "$python" scripts/try_configs.py --tokenizer "$tokenizer" --source "$rows" --out "$OUT/configs.json" "${tiny[@]}" \
    "${@:2}" | tee "$OUT/configs.txt" ;;
writing)
  "$python" scripts/bench_generation.py --base llama2-7b --tokenizer "$tokenizer" --variants slots slots-fp8 \
    --out "$OUT/writing.json" "${tiny[@]}" | tee "$OUT/writing.txt" ;;
few)
  for count in ${COUNTS:-1 8}; do
    "$python" scripts/bench_generation.py --base llama2-7b --tokenizer "$tokenizer" --rows $count \
      --variants slots generate-merged:$count --out "$OUT/few-$count.json" "${tiny[@]}" | tee "$OUT/few-$count.txt"
  done ;;
esac
say done
