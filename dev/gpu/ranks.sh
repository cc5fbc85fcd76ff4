#!/bin/bash
# Two GPUs: ranks.sh faults (killed and standing ranks, deterministic), paged (DDP with the config's optimizer and dropout),
# write (generate and corpus over 10,000 texts).
. "$(dirname "$0")/common.sh"
small=() texts=10000 steps=80
if [ -n "${TINY:-}" ]; then small=(--data.seq_len 256) texts=40 steps=6; fi
bench=("$python" scripts/bench_ranks.py --source "$rows" "${accelerator[@]}")
case $1 in
faults)
  make_base llama2-7b /tmp/base4 --layers 4
  keys=(-- --trainer.deterministic true "${small[@]}")
  for variant in ddp fsdp2; do
    "${bench[@]}" --base /tmp/base4 --work "/tmp/faults-$variant" --parts ${PARTS:-kill restart} --variants $variant --steps 16 \
      --warmup 2 --rows 8 --micro_batch_size 2 "${keys[@]}" > "$OUT/faults-$variant.txt" 2>&1 &
  done
  wait
  tail -n 25 "$OUT"/faults-*.txt ;;
paged)
  make_base llama2-7b /tmp/base7
  "${bench[@]}" --base /tmp/base7 --work /tmp/paged --parts speed --variants one ddp --steps 20 --bound 1 -- \
    --model.optimizer paged_adamw_32bit --model.lora.dropout 0.1 --model.activation_memory_gib auto "${small[@]}" \
    2>&1 | tee "$OUT/paged.txt" ;;
write)
  # RUN: one that is there writes, else one is trained
  parts=(--parts speed write --work /tmp/write)
  if [ -n "${RUN:-}" ]; then parts=(--parts write --work "$(dirname "$RUN")" --evaluated "$(basename "$RUN")"); fi
  work=(--base "$smollm2" --config configs/smollm2-dolly.yaml --rows 8 --micro_batch_size 4 "${parts[@]}")
  "${bench[@]}" "${work[@]}" --variants ddp --steps $steps --warmup 4 --texts $texts \
    --commands ${COMMANDS:-generate-fp32 corpus-bf16} -- "${small[@]}" 2>&1 | tee "$OUT/write.txt" ;;
esac
say done
