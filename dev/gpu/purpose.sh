#!/bin/bash
# The experiments of docs/purpose.md: purpose.sh main [ARM ...] | training. Results lie in dev/results, where they are gone
# on from.
. "$(dirname "$0")/common.sh"
mkdir -p dev/results
small=() jobs=${JOBS:-8}
if [ -n "${TINY:-}" ]; then small=(--seeds 42 --heldout 12 --val 8 --samples 2 --new_tokens 8) jobs=1; fi
case $1 in
main)
  arms=()
  if [ $# -gt 1 ]; then arms=(--arms "${@:2}"); fi
  "$python" -m scripts.purpose dev/results/purpose --data "$rows" --runs /tmp/purpose --jobs $((jobs * gpus)) \
    --gpus "$gpus" --stop_after "${STOP_AFTER:-480}" --stages ${STAGES:-main} "${arms[@]}" "${small[@]}" \
    --backward_args "--model.base $smollm2" --forward_args "--model.base $smollm2 --data.rows_per_step 4"
  "$python" -m scripts.purpose dev/results/purpose --table | tee "$OUT/purpose.txt" ;;
training)
  common=(--model.base "$smollm2" --data.source "$rows" --data.split runs/split/split.json)
  "$python" scripts/sweep.py configs/smollm2-dolly.yaml configs/sweeps/training.yaml --seeds 42 43 44 45 46 "${common[@]}" \
    --gpus all --at_once "$jobs" --stop_after "${STOP_AFTER:-480}" --table dev/results/training.jsonl \
    --trainer.enable_progress_bar false | tee "$OUT/training.txt" ;;
esac
cp -r dev/results "$OUT" 2>/dev/null || true
say done
