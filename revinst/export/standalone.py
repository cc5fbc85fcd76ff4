"""A standalone model folder: merged weights, tokenizer, card, GGUF files and how far it drifted."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from revinst.data.prompt import Template, prompt_text
from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError
from revinst.evaluation.examples import EvaluatedExamples
from revinst.export.card import add_drift
from revinst.export.drift import prepare_drift
from revinst.export.gguf import check_gguf, write_gguf
from revinst.export.gguf_tokenizer import composes
from revinst.export.licences import public_name
from revinst.export.merge import plan_merge, write_merge, write_text_files
from revinst.export.modelfile import build_modelfile
from revinst.inference.trained import Trained
from revinst.model.hardware import why_no_bitsandbytes
from revinst.progress import track
from revinst.runs.files import MARKER, hash_adapter, whole_folder, write_json, write_text


def choose_target(trained: Trained, onto: str | None) -> str:
    if onto == "nf4" and trained.quantization != "nf4":
        raise UserError("--onto nf4: this adapter was trained on a 16-bit base; leave --onto out")
    onto = onto or ("nf4" if trained.quantization == "nf4" else "16bit")
    if onto == "nf4" and (missing := why_no_bitsandbytes()):
        raise UserError(f"--onto nf4: {missing}; merge on another machine, or with --onto 16bit, which costs quality")
    return onto


def merge_into(folder: Path, trained: Trained, onto: str, formats: list[str], card: str) -> None:
    """All of it or nothing, through a temporary folder beside `folder`; what takes long comes last."""
    # On the CPU, whatever the machine: merging is one pass over the weights.
    merge = plan_merge(trained.base, trained.adapter, onto)
    add_bos = not trained.template.has_bos
    gguf_bytes = sum(check_gguf(merge.base.config, merge.shapes, trained.tokenizer, kind) for kind in formats)
    if formats and composes(trained.tokenizer):
        print(
            "GGUF: llama.cpp does not compose characters, as this tokenizer does: give it text in NFC", file=sys.stderr
        )
    with whole_folder(folder) as temporary:
        write_json(temporary / MARKER, merge_record(trained, onto))
        write_text(temporary / "README.md", card)
        write_text_files(temporary, merge.base.config, trained.tokenizer, add_bos=add_bos)
        write_merge(merge, temporary, partial(track, title="merging", unit="shards"), gguf_bytes)
        write_gguf_files(temporary, trained, formats, folder.name)


def merge_record(trained: Trained, onto: str) -> dict[str, Any]:
    return {
        "base": public_name(trained.base),
        "quantization": trained.quantization,
        "onto": onto,
        "adapter_sha256": hash_adapter(trained.adapter),
        "unredacted": trained.unredacted,
    }


def write_gguf_files(folder: Path, trained: Trained, formats: list[str], name: str) -> None:
    """Each format's file, and one Modelfile for Ollama, which names the first."""
    if not formats:
        return
    tokenizer, template = trained.tokenizer, trained.template
    (folder / "gguf").mkdir()
    for kind in formats:
        write_gguf(
            folder,
            folder / "gguf" / f"{name}-{kind}.gguf",
            kind,
            tokenizer,
            add_bos=not template.has_bos,
            begins_with_text=begins_with_text(template, tokenizer),
            progress=partial(track, title=f"GGUF {kind}", unit="tensors"),
        )
    file = f"{name}-{formats[0]}.gguf"
    modelfile = build_modelfile(file, template, tokenizer, trained.seq_len, trained.new_tokens)
    (folder / "gguf" / "Modelfile").write_text(modelfile, encoding="utf-8", newline="\n")


def begins_with_text(template: Template, tokenizer: Tokenizer) -> bool:
    """Of a prompt; in a chat template alone special tokens are parsed."""
    if template.name != "chat":
        return True
    special = {number for number, token in tokenizer.hf.added_tokens_decoder.items() if token.special}
    return not special.intersection(tokenizer.encode_fixed(prompt_text(template), parse_special=True)[:1])


def measure_drift(folder: Path, trained: Trained, evaluated: EvaluatedExamples, card: str) -> dict[str, Any] | None:
    """The content of drift.json, which the card gets too. None, with a line, where there is no room for the model."""
    try:
        drift = prepare_drift(trained, evaluated, folder)
    except UserError as error:
        print(f"no drift report: {error}", file=sys.stderr)
        return None
    forms: dict[str, Any] = {"bf16": partial(drift.load_merged, folder)}
    for file in sorted((folder / "gguf").glob("*.gguf")):
        forms[f"gguf {file.stem.removeprefix(f'{folder.name}-')}"] = partial(drift.load_gguf, file)
    report = drift.measure(forms)
    write_json(folder / "drift.json", report)
    write_text(folder / "README.md", add_drift(card, report))
    return report
