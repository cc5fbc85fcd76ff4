#!/bin/bash
# The table of docs/results.md: three recipes over five seeds on one split, scored on the held-out rows.
. "$(dirname "$0")/common.sh"
common="--model.base $smollm2 --data.source $rows --trainer.enable_progress_bar false --samples.every_steps 0"
split="--data.heldout_fraction 0.1672 --data.val_fraction 0.08" seeds="42 43 44 45 46"
if [ -n "${TINY:-}" ]; then
  common+=" --data.seq_len 384 --trainer.max_steps 2 --trainer.max_epochs -1" seeds="42 43"
  split="--data.heldout_fraction 0.9 --data.val_fraction 0.01"
fi
[ -f runs/split/split.json ] || "$python" -m revinst.cli fit --config configs/smollm2-dolly.yaml --run_name split \
  $common $split --trainer.max_steps 1 > "$OUT/split.log" 2>&1
declare -A recipes=(
  [first]="--config configs/smollm2-dolly.yaml --data.rows_per_step 12 --model.lr 1e-3"
  [recommended]="--config configs/smollm2-dolly.yaml"
  [blog]="--config configs/llama2-7b-blog.yaml"
)
train() { # NAME-SEED; the slot of xargs chooses the GPU
  local name=$1 seed=${1##*-}
  [ -f "runs/$name/evaluation/scores.json" ] && return
  export CUDA_VISIBLE_DEVICES=$((SLOT % gpus))
  "$python" -m revinst.cli fit $2 --run_name "$name" --seed_everything "$seed" --data.split runs/split/split.json $common &&
    "$python" -m revinst.cli evaluate "runs/$name" ${TINY:+--limit 8 --max_new_tokens 8}
  rm -rf "runs/$name/checkpoints"
}
export -f train
export python gpus common TINY
for seed in $seeds; do
  for recipe in "${!recipes[@]}"; do printf '%s\t%s\n' "$recipe-$seed" "${recipes[$recipe]}"; done
done | xargs -d '\n' -P $((${AT_ONCE:-5} * gpus)) --process-slot-var=SLOT -I LINE \
  bash -c 'IFS=$'"'\t'"' read -r name options <<< "LINE"; train "$name" "$options" > "'"$OUT"'/$name.log" 2>&1'
systems() { for seed in $seeds; do echo -n "runs/$1-$seed,"; done | sed 's/,$//'; }
"$python" -m revinst.cli compare "$(systems first)" "$(systems recommended)" "$(systems blog)" | tee "$OUT/recipes.txt"
say done
