#!/bin/bash
# The experiments of docs/purpose.md: purpose.sh main [ARM ...] | training. $OUT/results.tar.xz has what was done; put to
# dev/results.tar.xz, it is gone on from.
. "$(dirname "$0")/common.sh"
results=/tmp/results
if [ ! -d $results ]; then
  mkdir $results
  if [ -f dev/results.tar.xz ]; then tar xJf dev/results.tar.xz -C $results; fi
fi
small=() jobs=${JOBS:-8} sweep=(--seeds 42 43 44 45 46 --gpus all) first=${TRAIN_ROWS:-2600}
if [ -n "${TINY:-}" ]; then
  small=(--seeds 42 --heldout 12 --val 8 --samples 2 --new_tokens 8) jobs=1 first=200
  sweep=(--seeds 42 --only rows-2 mean-5 neftune-5 --trainer.max_steps 4 --trainer.max_epochs -1 --checkpoint.every_steps 1)
fi
case $1 in
main)
  arms=()
  if [ $# -gt 1 ]; then arms=(--arms "${@:2}"); fi
  "$python" -m scripts.purpose $results/purpose --data "$rows" --runs /tmp/purpose --jobs $((jobs * gpus)) \
    --gpus "$gpus" --stop_after "${STOP_AFTER:-480}" --stages ${STAGES:-main} "${arms[@]}" "${small[@]}" \
    --backward_args "--model.base $smollm2" --forward_args "--model.base $smollm2 --data.rows_per_step 4"
  "$python" -m scripts.purpose $results/purpose --table | tee "$OUT/purpose.txt" ;;
training)
  head -n "$first" "$rows" > /tmp/some-rows.jsonl  # 90 runs of 13 s each; twice that with all 5,983
  rows=/tmp/some-rows.jsonl
  [ -f runs/some-rows/split.json ] || "$python" -m revinst.cli fit --config configs/smollm2-dolly.yaml --run_name some-rows \
    --model.base "$smollm2" --data.source "$rows" --data.val_fraction 0.1 --trainer.max_steps 1 --samples.every_steps 0 \
    > "$OUT/split.log" 2>&1
  common=(--model.base "$smollm2" --model.base_gemm bf16 --data.source "$rows" --data.split runs/some-rows/split.json)
  "$python" scripts/sweep.py configs/smollm2-dolly.yaml configs/sweeps/training.yaml "${sweep[@]}" "${common[@]}" \
    --at_once "$jobs" --stop_after "${STOP_AFTER:-480}" --table $results/training.jsonl \
    --trainer.enable_progress_bar false | tee "$OUT/training.txt" ;;
esac
tar cf - -C $results . | xz -T0 > "$OUT/results.tar.xz"
say done
