"""Text to packed rows: ours and TRL's preparation on the same rows, one process after the other.

    make bench                                   (installs TRL beside revinst)
    python scripts/bench_data.py --data dolly.jsonl --base models/smollm2-135m [--rows 15011] [--repeats 5]

Loading the rows and the tokenizer is excluded on both sides, so are imports. Ours: rendering, encoding, shifting and
best-fit packing into 2,048 tokens, without the cache on disk. TRL's: `SFTTrainer._prepare_dataset` on prompt and
completion columns with packing. Also counts the rows for which our ids differ from the Hugging Face tokenizer's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from revinst.options import Parser

SEQ_LEN = 2048


def read_rows(path: str, count: int) -> list[dict[str, str]]:
    """The file's rows, repeated to `count`; repeats get a number, so that no text comes twice."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    repeated = islice(cycle(rows), count)
    return [
        row if number < len(rows) else row | {"response": f"{row['response']} ({number})"}
        for number, row in enumerate(repeated)
    ]


def run_ours(rows: list[dict[str, str]], base: str, repeats: int) -> dict[str, Any]:
    from revinst.data.encoding import encode_examples
    from revinst.data.examples import Example
    from revinst.data.packing import pack_documents
    from revinst.data.prompt import load_template
    from revinst.data.tokenizer import load_tokenizer

    tokenizer, template = load_tokenizer(base), load_template("blog")
    examples = [Example(str(n), row["instruction"], "", row["response"], "") for n, row in enumerate(rows)]
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        documents = encode_examples(examples, template, tokenizer, SEQ_LEN)
        packed = pack_documents(documents.lengths.tolist(), "best_fit", SEQ_LEN)
        seconds.append(time.perf_counter() - start)
    tokenizer.fast, route = None, "gigatoken" if tokenizer.fast else f"Hugging Face ({tokenizer.reason})"
    plain = encode_examples(examples, template, tokenizer, SEQ_LEN)
    bounds = list(zip(documents.offsets[:-1], documents.offsets[1:], strict=True))
    different = sum(documents.input_ids[a:b].tolist() != plain.input_ids[a:b].tolist() for a, b in bounds)
    return {"seconds": seconds, "rows": len(packed), "tokens": len(documents.input_ids), "route": route,
            "different_ids": different if len(plain) == len(documents) else len(rows)}  # fmt: skip


def run_trl(rows: list[dict[str, str]], base: str, repeats: int) -> dict[str, Any]:
    from datasets import Dataset, disable_caching
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from revinst.data.examples import Example
    from revinst.data.prompt import load_template, render_prompt

    disable_caching()
    template, seconds, prepare = load_template("blog"), [], SFTTrainer._prepare_dataset
    pairs = []
    for row in rows:
        prompt = render_prompt(template, Example("", row["instruction"], "", row["response"], ""))
        pairs.append({"prompt": prompt.text, "completion": prompt.target})

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        dataset = prepare(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return dataset

    setattr(SFTTrainer, "_prepare_dataset", timed)  # noqa: B010
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16,
                                         num_hidden_layers=1, num_attention_heads=1))  # fmt: skip
    args = SFTConfig(packing=True, max_length=SEQ_LEN, output_dir="/tmp/revinst-bench-trl", report_to=[], use_cpu=True)
    for _ in range(repeats):
        dataset = Dataset.from_list(pairs)
        packed: Any = SFTTrainer(model, args=args, train_dataset=dataset, processing_class=tokenizer).train_dataset
    return {"seconds": seconds, "rows": len(packed)}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a jsonl file with instruction and response")
    parser.add_argument("--base", default="models/smollm2-135m")
    parser.add_argument("--rows", type=int, default=15011)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["ours", "trl"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = run_ours if options.only == "ours" else run_trl
        print("RESULT", json.dumps(run(read_rows(options.data, options.rows), options.base, options.repeats)))
        return
    results = {}
    for name in ("ours", "trl"):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
        if line is None:
            print(f"{name}: failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        results[name] = json.loads(line.removeprefix("RESULT "))
        seconds = results[name]["seconds"]
        rest = {key: value for key, value in results[name].items() if key != "seconds"}
        print(f"{name}: median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s of {len(seconds)}; {rest}")
    if len(results) == 2:
        medians = [statistics.median(results[name]["seconds"]) for name in ("trl", "ours")]
        print(f"ratio of medians: {medians[0] / medians[1]:.1f}")


if __name__ == "__main__":
    main()
