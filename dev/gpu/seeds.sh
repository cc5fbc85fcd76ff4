#!/bin/bash
# Products of the base in 8 bits over five seeds: training with each kind, then prompts in 8 bits for the runs in bf16.
. "$(dirname "$0")/common.sh"
common=(--model.base "$smollm2" --data.source "$rows" --trainer.enable_progress_bar false)
split=(--data.heldout_fraction 0.1672 --data.val_fraction 0.08) seeds="42 43 44 45 46" trials=configs/sweeps/base-gemm.yaml
if [ -n "${TINY:-}" ]; then
  common+=(--data.seq_len 384 --trainer.max_steps 3 --trainer.max_epochs -1) seeds="42 43" gpus=1
  split=(--data.heldout_fraction 0.9 --data.val_fraction 0.01) trials=/tmp/trials.yaml
  echo 'bf16: {model.base_gemm: bf16}' > $trials
fi
[ -f runs/split/split.json ] || "$python" -m revinst.cli fit --config configs/smollm2-dolly.yaml --run_name split \
  "${common[@]}" "${split[@]}" --trainer.max_steps 1 --samples.every_steps 0 > "$OUT/split.log" 2>&1
say split
options=(--table "$OUT/base-gemm.jsonl" --at_once "${AT_ONCE:-5}" --stop_after "${STOP_AFTER:-480}" ${ONLY:+--only $ONLY})
if [ -z "${TINY:-}" ]; then options+=(--gpus all); fi
"$python" scripts/sweep.py configs/smollm2-dolly.yaml $trials --seeds $seeds "${common[@]}" \
  --data.split runs/split/split.json "${options[@]}" | tee "$OUT/base-gemm.txt"
say trained
name=$(basename $trials .yaml) number=0
for seed in $seeds; do
  for kind in bf16 fp8; do
    flags=()
    if [ -n "${TINY:-}" ]; then flags=(--limit 8 --max_new_tokens 8); elif [ $kind = fp8 ]; then flags=(--fp8_prefill); fi
    CUDA_VISIBLE_DEVICES=$((number % gpus)) "$python" -m revinst.cli evaluate "runs/$name-bf16-$seed" --name "prefill-$kind" \
      "${flags[@]}" > "$OUT/prefill-$kind-$seed.log" 2>&1 &
    number=$((number + 1))
  done
done
wait
say written
systems=$(for kind in bf16 fp8; do
  for seed in $seeds; do echo -n "runs/$name-bf16-$seed/evaluation/prefill-$kind,"; done | sed 's/,$/ /'
done)
"$python" -m revinst.cli compare $systems | tee "$OUT/prefill.txt"
say done
