"""`revinst merge`: a standalone model that plain transformers loads."""

import shutil
from pathlib import Path
from typing import Any

from revinst.commands.publish import push
from revinst.commands.trained import Trained, build_parser, build_progress, open_trained, quiet_libraries, track
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.model.merge import MARKER, TARGETS, adapter_sha256, plan_merge, write_merge, write_text_files
from revinst.run import write_json


def main(args: list[str]) -> int:
    parser = build_parser("merge", "Write a standalone bf16 model with the adapter merged in.")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="a folder that does not exist yet")
    parser.add_argument(
        "--onto",
        choices=TARGETS,
        help="nf4: the 4-bit values the adapter was trained against (default after QLoRA); 16bit: the base's own",
    )
    parser.add_argument("--push_to_hub", metavar="ID", help="also upload it, as a private repository")
    options = parser.parse_args(args)
    if options.out.exists():
        raise UserError(f"{options.out} exists; give a new folder")
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, options)
    merge_into(options.out, trained, choose_target(trained, options.onto))
    print(f"merged model in {options.out}")
    if options.push_to_hub:
        push(options.out, options.push_to_hub)
    return 0


def choose_target(trained: Trained, onto: str | None) -> str:
    if onto == "nf4" and trained.quantization != "nf4":
        raise UserError("--onto nf4: this adapter was trained on a 16-bit base; leave --onto out")
    return onto or ("nf4" if trained.quantization == "nf4" else "16bit")


def merge_into(folder: Path, trained: Trained, onto: str) -> None:
    """All of it or nothing: through a temporary folder beside `folder`."""
    # On the CPU, whatever the machine: merging is one pass over the weights.
    merge = plan_merge(trained.base, trained.adapter, onto)
    tokenizer = load_tokenizer(trained.base)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with build_progress() as progress:
            write_merge(merge, temporary, lambda files: track(progress, "shards", files))
        write_text_files(temporary, merge.base.config, tokenizer)
        write_json(temporary / MARKER, merge_record(trained, onto))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def merge_record(trained: Trained, onto: str) -> dict[str, Any]:
    return {
        "base": trained.base,
        "quantization": trained.quantization,
        "onto": onto,
        "adapter_sha256": adapter_sha256(trained.adapter),
    }
