"""`revinst merge`: a standalone model that plain transformers loads, how far it drifted, and GGUF files of it."""

import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from revinst.commands.card import add_drift, build_card, name_of, prompt_text
from revinst.commands.drift import prepare_drift
from revinst.commands.evaluated_rows import EvaluatedRows, choose_rows
from revinst.commands.publish import add_push_options, push
from revinst.commands.trained import Trained, build_parser, open_trained, quiet_libraries
from revinst.data.prompt import SLOT, load_template
from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.errors import UserError
from revinst.evaluation.drift import build_drift_table
from revinst.model.gguf import FORMATS, check_gguf, write_gguf
from revinst.model.hardware import why_no_bitsandbytes
from revinst.model.merge import MARKER, TARGETS, adapter_sha256, plan_merge, write_merge, write_text_files
from revinst.progress import track
from revinst.run import whole_folder, write_json, write_text


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    if options.out.exists():
        raise UserError(f"{options.out} exists; give a new folder")
    if options.drift_rows < 0:
        raise UserError(f"--drift_rows {options.drift_rows}: must be at least 0")
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, options)
    rows = choose_drift_rows(trained, options)
    repository = options.push_to_hub or options.out.name
    onto = choose_target(trained, options.onto)
    card = build_card(trained, repository, onto)
    merge_into(options.out, trained, onto, options.gguf, card)
    print(f"merged model in {options.out}")
    if rows is not None:
        measure_drift(options.out, trained, rows, card)
    if options.push_to_hub:
        push(options.out, options.push_to_hub, public=options.public, dry_run=options.dry_run)
    return 0


def build_options() -> ArgumentParser:
    parser = build_parser("merge", "Write a standalone bf16 model with the adapter merged in.")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="a folder that does not exist yet")
    parser.add_argument(
        "--onto",
        choices=TARGETS,
        help="nf4: the 4-bit values the adapter was trained against (default after QLoRA); 16bit: the base's own",
    )
    parser.add_argument("--gguf", nargs="+", choices=list(FORMATS), default=[], help="also these files in OUT_DIR/gguf")
    parser.add_argument("--drift_rows", type=int, default=100, help="held-out rows of the drift report; 0: none")
    parser.add_argument("--input", help="rows of the drift report, for an adapter folder")
    add_push_options(parser)
    return parser


def choose_target(trained: Trained, onto: str | None) -> str:
    if onto == "nf4" and trained.quantization != "nf4":
        raise UserError("--onto nf4: this adapter was trained on a 16-bit base; leave --onto out")
    onto = onto or ("nf4" if trained.quantization == "nf4" else "16bit")
    if onto == "nf4" and (missing := why_no_bitsandbytes()):
        raise UserError(f"--onto nf4: {missing}; merge on another machine, or with --onto 16bit, which costs quality")
    return onto


def choose_drift_rows(trained: Trained, options: Namespace) -> EvaluatedRows | None:
    """None, with a line that says why, where there are none."""
    if options.drift_rows == 0:
        return None
    try:
        return choose_rows(trained, options.input, options.drift_rows, allow_trained=True)
    except UserError as error:
        if options.input:
            raise
        print(f"no drift report: {error}", file=sys.stderr)
        return None


def merge_into(folder: Path, trained: Trained, onto: str, formats: list[str], card: str) -> None:
    """All of it or nothing, through a temporary folder beside `folder`; what takes long comes last."""
    # On the CPU, whatever the machine: merging is one pass over the weights.
    merge = plan_merge(trained.base, trained.adapter, onto)
    tokenizer = load_tokenizer(trained.base)
    gguf_bytes = sum(check_gguf(merge.base.config, merge.shapes, tokenizer, kind) for kind in formats)
    with whole_folder(folder) as temporary:
        write_json(temporary / MARKER, merge_record(trained, onto))
        write_text(temporary / "README.md", card)
        write_text_files(temporary, merge.base.config, tokenizer)
        write_merge(merge, temporary, partial(track, title="merging", unit="shards"), gguf_bytes)
        write_gguf_files(temporary, trained, tokenizer, formats, folder.name)


def merge_record(trained: Trained, onto: str) -> dict[str, Any]:
    return {
        "base": name_of(trained.base),
        "quantization": trained.quantization,
        "onto": onto,
        "adapter_sha256": adapter_sha256(trained.adapter),
    }


def write_gguf_files(folder: Path, trained: Trained, tokenizer: Tokenizer, formats: list[str], name: str) -> None:
    """Each format's file, and one Modelfile for Ollama, which names the first."""
    if not formats:
        return
    template = load_template(trained.template, tokenizer.hf)
    (folder / "gguf").mkdir()
    for kind in formats:
        write_gguf(
            folder,
            folder / "gguf" / f"{name}-{kind}.gguf",
            kind,
            tokenizer,
            add_bos=not template.has_bos,
            progress=partial(track, title=f"GGUF {kind}", unit="tensors"),
        )
    prompt = SLOT.sub("{{ .Prompt }}", prompt_text(template))
    lines = [
        f"FROM ./{name}-{formats[0]}.gguf",
        f'TEMPLATE """{prompt}"""',
        "PARAMETER temperature 0",
        "PARAMETER num_predict 100",
        f"PARAMETER num_ctx {trained.seq_len}",
        *(f'PARAMETER stop "{text}"' for text in (tokenizer.hf.eos_token, *template.headers)),
    ]
    (folder / "gguf" / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def measure_drift(folder: Path, trained: Trained, rows: EvaluatedRows, card: str) -> None:
    """drift.json, and the card with it. Where there is no room for the model, a line says so."""
    try:
        drift = prepare_drift(trained, rows, folder)
    except UserError as error:
        print(f"no drift report: {error}", file=sys.stderr)
        return
    forms: dict[str, Any] = {"bf16": partial(drift.load_merged, folder)}
    for file in sorted((folder / "gguf").glob("*.gguf")):
        forms[f"gguf {file.stem.removeprefix(f'{folder.name}-')}"] = partial(drift.load_gguf, file)
    report = drift.measure(forms)
    write_json(folder / "drift.json", report)
    write_text(folder / "README.md", add_drift(card, report))
    Console().print(build_drift_table(report))
