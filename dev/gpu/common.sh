# What the calls share: OUT, bases in /tmp, and TINY=1 for a rehearsal on a CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${OUT:=/tmp/out}"
rows=${ROWS:-/tmp/rows.jsonl} tokenizer=${TOKENIZER:-/tmp/tokenizer} smollm2=${SMOLLM2:-/tmp/smollm2-135m}
tiny=() gpus=${GPUS:-$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)} accelerator=(--accelerator gpu)
if [ -n "${TINY:-}" ]; then tiny=(--tiny) gpus=2 accelerator=(--accelerator cpu); fi
python=${PYTHON:-python3}
begun=$SECONDS
say() { echo "== $((SECONDS - begun)) s: $*"; }

# make_base SHAPE FOLDER [--layers N]
make_base() {
  [ -f "$2/config.json" ] || "$python" scripts/shapes.py "$1" "$2" --tokenizer "$tokenizer" "${@:3}" "${tiny[@]}"
}
