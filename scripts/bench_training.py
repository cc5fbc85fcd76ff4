"""Training speed of revinst and, where they are installed, of TRL and Unsloth on the same rows.

lean: every layer recomputes, with its inputs in host memory; fast: no layer does.

usage: bench_training.py --base FOLDER|SHAPE --source FILE [--variants fast lean trl ...] [--steps N] [--warmup N]
       [--rounds N] [--epoch_tokens N] [--peer_batch N] [--seq_len N] [--out FILE]

Each variant is a process of its own; rounds rotate their order. Rows are full (`packing: joined`, every token a
target) except for the variants named dolly, which take documents packed by best fit and isolated. Ours run through
`revinst fit`, and the numbers are metrics.csv's own; peers get the rows that our data module makes, and their steps
are timed between device syncs. The first steps are warm-up. With longer rows a step has fewer of them, the same
tokens. Shares are of 790 TFLOP/s in bf16, and ours are in bf16 but for the variants named fp8.
"""

import argparse
import csv
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from shapes import base_folder

from revinst.options import Parser

LOG_EVERY = 2
SEQ_LEN = 2048  # of the configs
TFLOPS = 790
FULL_ROWS = {"data.packing": "joined", "data.supervise": "all"}
FAST = {"model.activation_memory_gib": "auto", "model.optimizer": "adamw"}
NO_DROPOUT = {"model.lora.dropout": "0"}
QV = {"model.lora.target_modules": "[q_proj,v_proj]"}
VARIANTS: dict[str, dict[str, str]] = {
    "fast": FULL_ROWS | FAST | NO_DROPOUT,
    "fast-dropout": FULL_ROWS | FAST,
    "fast-fp8-backward": FULL_ROWS | FAST | NO_DROPOUT | {"model.base_gemm": "fp8_backward"},
    "fast-fp8": FULL_ROWS | FAST | NO_DROPOUT | {"model.base_gemm": "fp8"},
    "fast-70gib": FULL_ROWS | FAST | NO_DROPOUT | {"model.activation_memory_gib": "70"},  # beside others on the card
    "fast-paged": FULL_ROWS | FAST | NO_DROPOUT | {"model.optimizer": "paged_adamw_32bit"},
    "fast-qv": FULL_ROWS | FAST | NO_DROPOUT | QV,
    "lean": FULL_ROWS | NO_DROPOUT,
    "lean-dropout": FULL_ROWS,
    "lean-fp8-backward": FULL_ROWS | NO_DROPOUT | {"model.base_gemm": "fp8_backward"},
    "lean-fp8": FULL_ROWS | NO_DROPOUT | {"model.base_gemm": "fp8"},
    "lean-fp8-four": FULL_ROWS | NO_DROPOUT | {"model.base_gemm": "fp8", "data.micro_batch_size": "4"},
    "plain": FULL_ROWS | {"model.kernels": "plain"},
    "lean-qv": FULL_ROWS | NO_DROPOUT | QV,
    "dolly-fast": FAST | NO_DROPOUT,
    "dolly-fast-dropout": FAST,
    "dolly-lean-dropout": {},
    "dolly-plain": {"model.kernels": "plain"},
    # For --config configs/llama2-7b-blog.yaml
    "attention-eager": {"model.attention": "eager"},
    "attention-sdpa": {"model.attention": "sdpa"},
    "attention-varlen": {"model.attention": "varlen"},
    "attention-flash": {"model.attention": "flash"},
    "trl": {"gc": "1"},
    "trl-liger-no-checkpointing": {"gc": "0", "liger": "1"},
    "unsloth": {"gc": "1"},
    "unsloth-no-checkpointing": {"gc": "0"},
}


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", required=True, help="a folder, or a shape of shapes.py, made with random weights")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of a base that is made")
    parser.add_argument("--like", help="give a base that is made the sizes of another shape")
    parser.add_argument("--source", required=True)
    parser.add_argument("--config", default="configs/llama2-7b.yaml")
    parser.add_argument("--variants", nargs="+", default=["fast", "fast-dropout", "lean", "trl", "unsloth"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=4, help="steps, even")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epoch_tokens", type=int, help="of your data: also prints the hours of 3 epochs of them")
    parser.add_argument("--peer_batch", type=int, default=4, help="rows of 2,048 a forward of TRL and Unsloth")
    parser.add_argument("--seq_len", type=int, default=SEQ_LEN, help="tokens a row")
    parser.add_argument("--timeout_s", type=int, default=300)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=VARIANTS)
    options = parser.parse_args()
    if options.worker:
        print("RESULT " + json.dumps(measure(options)), flush=True)
        return
    with base_folder(options.base, options.tokenizer, options.like) as options.base:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Each variant in each round; prints the table."""
    results = []
    for number in range(options.rounds):
        shift = number % len(options.variants)
        for variant in options.variants[shift:] + options.variants[:shift]:
            results.append({"variant": variant, "round": number} | run_worker(variant, options))
            print(json.dumps(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results, options.epoch_tokens)


def run_worker(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    arguments = ["--base", options.base, "--source", options.source, "--config", options.config]
    length = ["--steps", str(options.steps), "--warmup", str(options.warmup), "--peer_batch", str(options.peer_batch)]
    length += ["--seq_len", str(options.seq_len)]
    command = [sys.executable, __file__, *arguments, *length, "--worker", variant]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"over {options.timeout_s} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return (
        json.loads(lines[-1][7:]) if lines else {"error": (done.stderr.strip() or "no output").splitlines()[-1][:300]}
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens/s (median after warm-up), loss of the last step, memory in GiB and the share of the roofline."""
    import torch

    variant = VARIANTS[options.worker]
    peer = "gc" in variant
    speeds, loss, targets = measure_peer(options, variant, Clock()) if peer else measure_ours(options, variant)
    result: dict[str, Any] = {"tokens_per_s": round(statistics.median(speeds)), "loss": loss}
    if torch.cuda.is_available():
        gc.collect()
        memory = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
        names = ("allocated_gib", "reserved_gib")
        result |= {name: round(value / 2**30, 2) for name, value in zip(names, memory, strict=True)}
    for name, recompute in (("share", False), ("share_recomputing", True)):
        result[name] = round(result["tokens_per_s"] / roofline(options, targets, recompute), 3)
    return result


def measure_ours(options: argparse.Namespace, variant: dict[str, str]) -> tuple[list[float], float, int]:
    """Runs `revinst fit` in this process. -> (tokens/s of each logging interval, loss, linear layers with LoRA)."""
    from revinst.commands.fit import main as fit

    quiet = {"samples.every_steps": "0", "trainer.limit_val_batches": "0", "checkpoint.every_steps": "null"}
    length = {"trainer.max_steps": str(options.steps), "trainer.log_every_n_steps": str(LOG_EVERY)}
    with tempfile.TemporaryDirectory() as runs:
        where = {"runs_dir": runs, "run_name": "bench", "model.base": options.base, "data.source": options.source}
        quiet |= {
            "trainer.enable_progress_bar": "false",
            "model.lr": "2e-4",
            "model.lr_schedule": "constant",
        }  # the peers'
        keys = quiet | length | where | rows_of(options) | {"model.base_gemm": "bf16"} | variant
        fit(["--config", options.config, *(part for key, value in keys.items() for part in (f"--{key}", value))])
        with (Path(runs) / "bench" / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("perf/tokens_per_s")]
        config = yaml.safe_load((Path(runs) / "bench" / "config.yaml").read_text())
        targets = config["model"]["lora"]["target_modules"]
    speeds = [float(row["perf/tokens_per_s"]) for row in rows][options.warmup // LOG_EVERY :]
    return speeds, float(rows[-1]["train/loss"]), len(targets) if isinstance(targets, list) else 7


def rows_of(options: argparse.Namespace) -> dict[str, str]:
    """Keys for rows of another length, as many tokens a step; none for the config's own."""
    if options.seq_len == SEQ_LEN:
        return {}
    rows = yaml.safe_load(Path(options.config).read_text())["data"]["rows_per_step"]
    return {"data.seq_len": str(options.seq_len), "data.rows_per_step": str(fewer(rows, options))}


def fewer(rows: int, options: argparse.Namespace) -> int:
    """As many tokens as so many rows of SEQ_LEN, at least one row."""
    return max(1, rows * SEQ_LEN // options.seq_len)


class Clock:
    """Seconds of each step, between device syncs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def begin(self) -> None:
        self.sync()
        self.since = time.perf_counter()

    def end(self) -> None:
        self.sync()
        self.seconds.append(time.perf_counter() - self.since)

    @staticmethod
    def sync() -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def measure_peer(options: argparse.Namespace, variant: dict[str, str], clock: Clock) -> tuple[list[float], float, int]:
    """TRL's or Unsloth's trainer on full rows of the same text, with their own recommended settings."""
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    unsloth = "unsloth" in options.worker
    if unsloth:
        import unsloth as _  # noqa: F401  (patches transformers, so before it)
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows, step_rows, tokenizer = full_rows(options)
    at_once = min(fewer(options.peer_batch, options), step_rows)

    class Steps(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.begin()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.end()

    checkpointing = variant["gc"] == "1"
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora: dict[str, Any] = {"r": 64, "lora_alpha": 16, "bias": "none", "target_modules": names}
    extra: dict[str, Any] = {}
    if unsloth:
        model = load_unsloth(options, checkpointing, lora)
    else:
        model, extra["peft_config"] = load_for_trl(options.base), LoraConfig(lora_dropout=0.1, **lora)
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=options.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=step_rows // at_once,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        optim="paged_adamw_32bit",
        learning_rate=2e-4,
        lr_scheduler_type="constant",
        max_grad_norm=0.3,
        bf16=True,
        tf32=True,
        max_length=options.seq_len,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_liger_kernel="liger" in variant,
        logging_steps=1000,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    columns = {"input_ids": rows, "labels": rows}
    data = Dataset.from_dict(columns | ({"attention_mask": [[1] * len(row) for row in rows]} if unsloth else {}))
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[Steps()], **extra
    )
    loss = trainer.train().training_loss
    return [step_rows * len(rows[0]) / seconds for seconds in clock.seconds[options.warmup :]], loss, len(names)


def full_rows(options: argparse.Namespace) -> tuple[list[list[int]], int, Any]:
    """Rows of token ids as `packing: joined` makes them, how many are in a step, and the tokenizer."""
    from revinst.config.parser import read_config
    from revinst.data.datamodule import build_data

    keys = FULL_ROWS | {"model.base": options.base, "data.source": options.source} | rows_of(options)
    overrides = [part for key, value in keys.items() for part in (f"--{key}", value)]
    data = build_data(read_config(["--config", options.config, *overrides]))
    data.setup()
    ids = data.train_documents.input_ids.tolist()
    length = options.seq_len
    rows = [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
    needed = data.settings.rows_per_step * options.steps
    return (rows * (needed // len(rows) + 1))[:needed], data.settings.rows_per_step, data.tokenizer.hf


def load_for_trl(base: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    options: dict[str, Any] = {"dtype": torch.bfloat16, "attn_implementation": "sdpa", "device_map": {"": 0}}
    return AutoModelForCausalLM.from_pretrained(base, quantization_config=nf4, **options)


def load_unsloth(options: argparse.Namespace, checkpointing: bool, lora: dict[str, Any]) -> Any:
    import torch
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        options.base, max_seq_length=options.seq_len, load_in_4bit=True, dtype=torch.bfloat16, local_files_only=True
    )
    mode: Any = "unsloth" if checkpointing else False
    return FastLanguageModel.get_peft_model(model, use_gradient_checkpointing=mode, lora_dropout=0.0, **lora)


def roofline(options: argparse.Namespace, adapted: int, recompute: bool) -> float:
    """Tokens/s at TFLOPS for full rows, r 64: GEMMs, causal attention and adapters, nothing else."""
    config = json.loads((Path(options.base) / "config.json").read_text())
    h, f, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    key_size = h * config.get("num_key_value_heads", config["num_attention_heads"]) // config["num_attention_heads"]
    forward = 2 * (layers * (2 * h * h + 2 * h * key_size + 3 * h * f) + h * config["vocab_size"])
    sizes = [2 * h, h + key_size, h + key_size, 2 * h, h + f, h + f, h + f]  # q, v, k, o, gate, up, down: in + out
    adapters = 2 * 64 * layers * sum(sizes[:adapted])
    attention = 2 * options.seq_len * h * layers  # forward; backward is 2.5 times that
    total = 2 * forward + 3 * adapters + 3.5 * attention + (forward + adapters + attention if recompute else 0)
    return TFLOPS * 1e12 / total


def print_table(results: list[dict[str, Any]], epoch_tokens: int | None) -> None:
    """Medians over rounds; the ratio is to TRL's defaults where they ran."""
    good = [result for result in results if "error" not in result]
    reference = statistics.median([r["tokens_per_s"] for r in good if r["variant"] == "trl"] or [float("nan")])
    print("| variant | tokens/s | ratio to TRL | allocated GiB | reserved | share of roofline | recomputing | hours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for variant in dict.fromkeys(result["variant"] for result in good):
        mine = [result for result in good if result["variant"] == variant]
        speed, first = statistics.median([result["tokens_per_s"] for result in mine]), mine[0]
        memory = [str(first.get(name, "")) for name in ("allocated_gib", "reserved_gib")]
        shares = [f"{first['share']:.2f}", f"{first['share_recomputing']:.2f}"]
        hours = f"{3 * epoch_tokens / speed / 3600:.2f}" if epoch_tokens else ""
        print(f"| {' | '.join([variant, f'{speed:,.0f}', f'{speed / reference:.2f}', *memory, *shares, hours])} |")


if __name__ == "__main__":
    main()
