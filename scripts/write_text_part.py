"""Writes the text part of a model that reads more than text, such as Gemma 3 from 4B, as a base of its own.

python scripts/write_text_part.py BASE OUT_DIR      (memory: the whole model in its own dtype)
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from revinst.options import Parser


def write_text_part(base: str, folder: Path) -> None:
    """With the base's tokenizer. Raises ValueError where transformers has no class for the part alone."""
    whole = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    config = whole.config.get_text_config()
    decoder, head = whole.get_decoder(), whole.get_output_embeddings()
    with torch.device("meta"):
        part = AutoModelForCausalLM.from_config(config, dtype=whole.dtype)
    if config is whole.config or type(part.get_decoder()) is not type(decoder):
        raise ValueError(f"{base}: transformers runs no text part of a {type(whole).__name__} alone")
    part.get_decoder().load_state_dict(decoder.state_dict(), assign=True)
    part.get_output_embeddings().load_state_dict(head.state_dict(), assign=True)
    part.generation_config = GenerationConfig.from_pretrained(base)
    part.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    write_text_part(args.base, args.out_dir)
