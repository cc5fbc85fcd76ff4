"""`revinst merge`: a standalone model that plain transformers loads."""

from pathlib import Path
from typing import Any

import torch

from revinst.commands.trained import build_parser, open_trained, quiet_libraries
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.model.inference import load_for_inference
from revinst.model.merge import adapter_sha256, merge_adapter, save_merged


def main(args: list[str]) -> int:
    parser = build_parser("merge", "Write a standalone bf16 model with the adapter merged in.")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--push_to_hub", metavar="ID", help="also upload it, as a private repository")
    options = parser.parse_args(args)
    if options.out.exists():
        raise UserError(f"{options.out} exists; give a new folder")
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished)
    # On the CPU and in fp32 for the sum: merging is one pass over the weights, and any machine has to do it alike.
    model = load_for_inference(
        trained.base, None, torch.device("cpu"), trained.quantization, torch.bfloat16, dequantize=True
    )
    from revinst.model.lora import load_adapter

    model = merge_adapter(load_adapter(model, trained.adapter))
    tokenizer = load_tokenizer(trained.base).hf
    save_merged(model, tokenizer, options.out, merge_record(trained))
    print(f"merged model in {options.out}")
    if options.push_to_hub:
        push(options.out, options.push_to_hub)
    return 0


def merge_record(trained: Any) -> dict[str, Any]:
    return {
        "base": trained.base,
        "quantization": trained.quantization,
        "onto": "nf4" if trained.quantization == "nf4" else "16bit",
        "adapter_sha256": adapter_sha256(trained.adapter),
    }


def push(folder: Path, repository: str) -> None:
    """Uploads the folder; the token comes from the environment or `hf auth login`, never from us."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder))
    except Exception as error:  # the hub client raises its own kinds, httpx's and the operating system's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--push_to_hub {repository}: {reason}; the merged model is in {folder}") from error
    print(f"uploaded to {repository} (private)")
