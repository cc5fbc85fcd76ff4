"""Sixty mistakes that people make at the command line: what is typed, and what the answer must say.

`write_folder` makes what the lines name: a config and its files, a run that did not finish, an evaluation.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = "data: {source: quickstart}\nmodel: {base: base}\ntrainer: {max_steps: 2}\n"
BAD_CONFIGS = {
    "hf.yaml": "model: {base: base}\ntrainer: {num_train_epochs: 3}\n",
    "typo.yaml": "model: {base: base, lr_shedule: cosine}\n",
    "value.yaml": "model: {base: base, lr: fast}\n",
    "int4.yaml": "model: {base: base, quantization: int4}\n",
    "open.yaml": "model: [base\n",
    "empty.yaml": "",
    "null.yaml": "model: {base: base, lr: null}\n",
}

MISTAKES: list[tuple[str, str]] = [
    # commands
    ("evalute runs/half", "did you mean evaluate?"),
    ("train ok.yaml", "choose from init, fetch, fit"),
    # where a config is
    ("fit", "as in `revinst fit quickstart`; gemma3-4b, "),
    ("fit nowhere.yaml", "--config nowhere.yaml: no such file; gemma3-4b, "),
    ("fit configs/quickstart.yaml", "no such file; did you mean quickstart, which comes with revinst"),
    ("fit --config nowhere.yaml", "--config nowhere.yaml: no such file"),
    ("fit model.lr=1e-3", "a key is given as --KEY VALUE"),
    ("fit open.yaml", "open.yaml: not a YAML file"),
    ("fit empty.yaml", "a config must be a mapping of keys"),
    ("plan", "give a config file or a run folder"),
    ("inspect nowhere", "--config nowhere: no such file"),
    ("plan data", "data/config.yaml: no such file"),
    # keys
    ("fit hf.yaml", "did you mean trainer.max_epochs?"),
    ("fit typo.yaml", "did you mean model.lr_schedule?"),
    ("fit ok.yaml --learning_rate 1e-4", "did you mean --model.lr?"),
    ("fit ok.yaml --lr 1e-4", "did you mean --model.lr?"),
    ("fit ok.yaml --lora_alpha 32", "did you mean --model.lora.alpha?"),
    ("fit ok.yaml --lora_r 8", "did you mean --model.lora.r?"),
    ("fit ok.yaml --per_device_train_batch_size 4", "did you mean --data.micro_batch_size?"),
    ("fit ok.yaml --gradient_accumulation_steps 4", "did you mean --data.rows_per_step?"),
    ("fit ok.yaml --num_train_epochs 2", "did you mean --trainer.max_epochs?"),
    ("fit ok.yaml --max_seq_length 512", "did you mean --data.seq_len?"),
    ("fit ok.yaml --output_dir out", "did you mean --runs_dir?"),
    ("fit ok.yaml --report_to wandb", "did you mean --trainer.logger?"),
    ("fit ok.yaml --seed 1", "did you mean --seed_everything?"),
    ("plan ok.yaml --model.lora.rank 8", "did you mean --model.lora.r?"),
    ("inspect ok.yaml --data.seq_le 8", "did you mean --data.seq_len?"),
    ("fit ok.yaml --trainer.max_epoch 3", "did you mean --trainer.max_epochs?"),
    # values
    ("fit value.yaml", "model.lr 'fast': must be a number (config: value.yaml)"),
    ("fit int4.yaml --run_name half", "model.quantization 'int4': choose from nf4, none"),
    ("fit null.yaml", "model.lr is null"),
    ("fit ok.yaml --data.seq_len 99999999999", "data.seq_len 99999999999: must be at least 1, and at most 1,048,576"),
    ("fit ok.yaml --seed_everything -1", "seed_everything -1: must be from 0 to 4294967295"),
    ("fit ok.yaml --trainer.precision fp16", "choose from bf16-mixed, 16-mixed, 32-true"),
    ("fit ok.yaml --trainer.logger wand", "choose from tensorboard, csv, wandb, mlflow, comet, or a class"),
    ("fit ok.yaml --trainer.logger [csv,csv]", "csv is named twice"),
    ("fit ok.yaml --trainer.precision bf16-true", "bf16-mixed"),
    ("fit ok.yaml --trainer.strategy deepspeed", "use ddp, or fsdp2"),
    ("fit ok.yaml --trainer.accelerator tpu", "choose from auto, cpu, gpu, cuda, mps"),
    ("fit ok.yaml --trainer.accumulate_grad_batches 4", "data.rows_per_step"),
    ("fit ok.yaml --trainer.gradient_clip_val 1", "model.max_grad_norm"),
    ("fit ok.yaml --trainer.max_steps 2.5", "trainer.max_steps '2.5': must be a whole number"),
    ("fit ok.yaml --model.lr", "--model.lr: expected one argument"),
    ("fit ok.yaml --model.lr -1", "model.lr -1.0: must be above 0"),
    ("fit ok.yaml --model.lr_schedule linaer", "choose from constant, linear, cosine"),
    ("fit ok.yaml --data.packing tight", "choose from best_fit, joined, none"),
    ("fit ok.yaml --data.strip_citations maybe", "choose from true, false"),
    ("plan ok.yaml --data.heldout_fraction 1.5", "must leave rows to train on"),
    ("plan ok.yaml --device gpu", "choose from 'cuda', 'cpu'"),
    # files and folders that are not there
    ("fit ok.yaml --model.base models/nothing/here", "model.base models/nothing/here: no such folder"),
    ("fit ok.yaml --data.source no/such.jsonl", "no/such.jsonl: no such file or folder"),
    ("inspect ok.yaml --data.template letter", "data.template 'letter': neither blog"),
    ("plan ok.yaml --data.split no.json", "no.json"),
    ("fit ok.yaml --resume no.ckpt", "neither auto, never nor a checkpoint file"),
    ("fit ok.yaml --runs_dir runs --run_name half --resume never", "choose another --run_name"),
    # the other commands
    ("evaluate runs/none", "runs/none: no such run folder"),
    ("evaluate runs/half", "this run has not finished"),
    ("evaluate runs/half --unfinished --limit 0", "--limit 0: must be at least 1"),
    ("evaluate runs/half --unfinished --input no.jsonl", "--input no.jsonl: no such file or folder"),
    ("evaluate runs/half --part train", "choose from 'heldout', 'val'"),
    ("generate runs/half texts.jsonl --outptu o.jsonl", "did you mean --output?"),
    ("generate runs/half no.jsonl --unfinished --output o.jsonl", "no.jsonl: no such file or folder"),
    ("generate runs/half texts.jsonl --unfinished --output o.txt", "the output is a .jsonl file"),
    ("generate runs/half texts.jsonl --output o.jsonl --engine vllm", "'auto', 'slots', 'hf'"),
    ("compare runs/none runs/half", "run `revinst evaluate` first"),
    ("corpus no.mbox own --run runs/half", "no.mbox: no such file or folder"),
    ("corpus texts.jsonl own --run runs/half --me @", "--me '@': give a name, an id or an address"),
    ("corpus texts.jsonl own --run runs/half --join_minutes -1", "--join_minutes -1: must be at least 0"),
    ("corpus texts.jsonl own --run runs/half --rounds -1", "--rounds -1: must be at least 0"),
    ("corpus texts.jsonl --me mara", "the following arguments are required: OUT_DIR, --run"),
    ("corpus no.mbox --list_authors", "no.mbox: no such file or folder"),
    ("score no.jsonl", "no.jsonl: no such file"),
    ("merge runs/half out --gguf q5_0", "'q8_0'"),
    ("publish runs/none --push_to_hub me/x", "runs/none: no such run folder"),
    ("demo runs/half --port x", "argument --port: invalid int value"),
]


def write_folder(folder: Path) -> None:
    for name, text in {"ok.yaml": CONFIG, **BAD_CONFIGS}.items():
        (folder / name).write_text(text)
    base, run = folder / "base", folder / "runs" / "half"
    for each in (base, run, folder / "data"):
        each.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"")
    (run / "config.yaml").write_text(CONFIG)
    (run / "manifest.json").write_text(json.dumps({"completed": False}))
    (folder / "texts.jsonl").write_text(json.dumps({"response": "A comet is a ball of ice."}) + "\n")


def main() -> None:
    """Prints what was typed, what was answered and in how many seconds, each in a process of its own, as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder)
        print("| typed: revinst ... | answered | s |\n| --- | --- | --- |")
        seconds = []
        for typed, _ in MISTAKES:
            since = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "revinst", *typed.split()],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds.append(time.perf_counter() - since)
            print(f"| `{typed}` | {done.stderr.strip().replace('|', '/')} | {seconds[-1]:.2f} |", flush=True)
    print(f"\n{len(seconds)} mistakes: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
