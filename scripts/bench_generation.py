"""Generation speed of revinst beside transformers' `generate` and `generate_batch`, greedy, the adapter included.

usage: bench_generation.py --base FOLDER|SHAPE [...] [--variants slots generate-4bit:64 ...] [--rows N]
       [--prompt_tokens N] [--new_tokens N] [--lengths FILE] [--repeats N] [--out FILE]

Variants, each in a process of its own, `:N` after a name is its batch size:
  slots            ours, weights merged; also slots-22gib: within 22 GiB, as on a 24 GB card; and slots-fp8: prompts are
                   read with products in 8 bits
  generate-4bit    transformers' generate on the 4-bit base with PEFT's adapter
  generate-merged  the same on weights merged to bf16 (by us), which it is best at
  generate-static  the same with a static cache, compiled
  generate-batch   transformers' continuous batching on merged weights
Prompts are random tokens. With --lengths (jsonl rows with an instruction) each row stops at the length of one of these
instead of at --new_tokens; `generate` then runs each batch to its longest. The time includes prefill and, for ours, the
laying out of the weights, not loading. The first run is warm-up.

Several bases are measured one after another, and beside each is its ratio to the first. A shape of shapes.py is made
with random weights; with --like all have the sizes of one (layers, widths, heads, vocabulary): equal FLOP and an equal
cache, so what differs is how a layer is built.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from shapes import base_folder

from revinst.options import Parser

NAMES = ("slots", "slots-22gib", "slots-fp8", "generate-4bit", "generate-merged", "generate-static", "generate-batch")


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", nargs="+", required=True, help="folders, or shapes of shapes.py")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of bases that are made")
    parser.add_argument("--like", help="give bases that are made the sizes of this shape")
    parser.add_argument("--tiny", action="store_true", help="make them of two small layers, for a rehearsal")
    parser.add_argument("--variants", nargs="+", default=["slots", "generate-4bit:64", "generate-merged:256"])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--prompt_tokens", type=int, default=96)
    parser.add_argument("--new_tokens", type=int, default=100)
    parser.add_argument("--lengths", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--timeout_s", type=int, default=300)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        print("RESULT " + json.dumps(measure(options)), flush=True)
        return
    results = []
    for base in options.base:
        with base_folder(base, options.tokenizer, options.like, options.tiny) as folder:
            results += [
                {"base": base, "variant": variant} | run_worker(folder, variant, options)
                for variant in options.variants
            ]
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)


def print_table(results: list[dict[str, Any]]) -> None:
    """The ratio is to the first base in the same variant."""
    first = {result["variant"]: result.get("tokens_per_s") for result in reversed(results)}
    print("| base | variant | new tokens/s | ratio | rows/s | first run, s | peak GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in results:
        if "error" not in result:
            speed, reference = result["tokens_per_s"], first[result["variant"]]
            ratio = f"{speed / reference:.3f}" if reference else ""
            rest = [str(result.get(name, "")) for name in ("rows_per_s", "first_s", "peak_gib")]
            print(f"| {' | '.join([result['base'], result['variant'], f'{speed:,}', ratio, *rest])} |")


def run_worker(base: str, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    arguments = [part for name in ("rows", "prompt_tokens", "new_tokens", "repeats", "lengths")
                 if (value := getattr(options, name)) is not None for part in (f"--{name}", str(value))]  # fmt: skip
    command = [sys.executable, __file__, "--base", base, *arguments, "--worker", variant]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout_s, check=False)
    except subprocess.TimeoutExpired:
        result: dict[str, Any] = {"error": f"over {options.timeout_s} s"}
    else:
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        error = (done.stderr.strip() or "no output").splitlines()[-1][:300]
        result = json.loads(lines[-1][7:]) if lines else {"error": error}
    print(variant, json.dumps(result), flush=True)
    return result


def measure(options: argparse.Namespace) -> dict[str, Any]:
    name, _, size = options.worker.partition(":")
    if name not in NAMES:
        raise SystemExit(f"{name}: choose from {', '.join(NAMES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(options.base[0], device, merged=name.split("-")[-1] in ("merged", "static", "batch"))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size - 1, (options.rows, options.prompt_tokens), generator=generator)
    limits = read_limits(options)
    write = WRITERS[name](model, ids, limits, int(size or 0))
    times = []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        written = write()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        assert written == sum(limits), f"{written} tokens were written, not {sum(limits)}"
    seconds = statistics.median(times[1:])
    result = {"tokens_per_s": round(sum(limits) / seconds), "rows_per_s": round(options.rows / seconds, 1)}
    result |= {"first_s": round(times[0], 1), "seconds": [round(t, 2) for t in times[1:]]}
    if device.type == "cuda":
        result["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return result


def load_model(base: str, device: torch.device, merged: bool) -> Any:
    """A 4-bit base with a fresh adapter of rank 64 on all linear layers; or the two as one model in bf16."""
    from revinst.config.settings import LoraSettings
    from revinst.model.base import dequantize_base, load_base
    from revinst.model.hardware import Machine
    from revinst.model.lora import attach_lora
    from revinst.model.proof import choose_proved

    # a static cache is compiled only with sdpa, and there the merged peers are fastest
    loaded = load_base(base, device, "nf4", "sdpa" if merged else choose_proved(base, Machine(device=device)).attention)
    if merged:
        loaded = dequantize_base(loaded)
    adapted = attach_lora(loaded, LoraSettings(), base)
    model = adapted.merge_and_unload() if merged else adapted
    for parameter in model.parameters():
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)
    return model.requires_grad_(False).eval()


def read_limits(options: argparse.Namespace) -> list[int]:
    """New tokens of each row."""
    if options.lengths is None:
        return [options.new_tokens] * options.rows
    from revinst.data.tokenizer import load_tokenizer

    rows = [json.loads(line)["instruction"] for line in options.lengths.open()]
    lengths = [len(ids) + 1 for ids in load_tokenizer(options.base[0]).encode_continuations(rows)]
    generator = torch.Generator().manual_seed(1)
    picked = torch.randint(len(lengths), (options.rows,), generator=generator).tolist()
    return [min(lengths[number], options.new_tokens) for number in picked]


def write_in_slots(model: Any, ids: torch.Tensor, limits: list[int], size: int, **settings: Any) -> Callable[[], int]:
    from revinst.data.tokenizer import load_tokenizer
    from revinst.inference.engine.engine import GenerationSettings, generate_batches
    from revinst.model.network import Network

    # every row is written to its limit
    no_eos: Any = SimpleNamespace(eos_ids=[], hf=load_tokenizer(model.config._name_or_path).hf)
    options = GenerationSettings(max_new_tokens=max(limits), batch_size=size or None, engine="slots", **settings)
    return lambda: sum(
        len(out.token_ids) for _, out in generate_batches(Network(model), no_eos, ids.tolist(), options, limits)
    )


def write_by_generate(
    model: Any, ids: torch.Tensor, limits: list[int], size: int, **settings: Any
) -> Callable[[], int]:
    @torch.no_grad()
    def write() -> int:
        for start in range(0, len(ids), size):
            batch = ids[start : start + size].to(model.device)
            longest = max(limits[start : start + size])
            length = {"max_new_tokens": longest, "min_new_tokens": longest}
            model.generate(
                input_ids=batch, attention_mask=torch.ones_like(batch), do_sample=False, pad_token_id=0,
                eos_token_id=None, **length, **settings,
            )  # fmt: skip
        return sum(limits)

    return write


def write_by_generate_batch(model: Any, ids: torch.Tensor, limits: list[int], size: int) -> Callable[[], int]:
    from transformers import GenerationConfig

    assert len(set(limits)) == 1, "one length for all rows"
    config = GenerationConfig(max_new_tokens=limits[0], do_sample=False, eos_token_id=-1, pad_token_id=0)

    def write() -> int:
        outputs = model.generate_batch(inputs=ids.tolist(), generation_config=config)
        return sum(len(output.generated_tokens) for output in outputs.values())

    return write


WRITERS: dict[str, Callable[..., Callable[[], int]]] = {
    "slots": write_in_slots,
    "slots-22gib": lambda *arguments: write_in_slots(*arguments, memory_gib=22),
    "slots-fp8": lambda *arguments: write_in_slots(*arguments, fp8_prefill=True),
    "generate-4bit": write_by_generate,
    "generate-merged": write_by_generate,
    "generate-static": lambda *arguments: write_by_generate(*arguments, cache_implementation="static"),
    "generate-batch": write_by_generate_batch,
}


if __name__ == "__main__":
    main()
