"""A tiny random base of each kind that people train, through the commands as a user gives them, with every number held
against plain transformers (eager, fp32).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from runpy import run_path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3Config, PreTrainedModel

from revinst.cli import main
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.inference.engine.engine import Engine, GenerationSettings
from revinst.inference.load import load_for_inference
from tests.export.readers import LLAMA_CPP, read_with, write_exact_gguf
from tests.model.base_cases import draw_documents, pack, plain_model, plain_nll, tiny_config

CPU, FP32 = torch.device("cpu"), torch.float32
IDS = 49152  # of the tokenizer
WINDOW, TRAINED_LENGTH = 24, 64  # tokens: the documents are of 25 to 90, the texts for llama.cpp longer
TEXTS = ['In 1995 the museum\'s textile room was dark: "light" fades dyes, ελληνικά 中文 🙂.\n\n\t' * n for n in (3, 5)]
PAIRS = [1.0 + number / 4 for number in range(8)]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": TRAINED_LENGTH,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": TRAINED_LENGTH,
    "factor": 32.0,
    "short_factor": PAIRS,
    "long_factor": [4 * factor for factor in PAIRS],
}
GRANITE = {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
SCALE = {"query_pre_attn_scalar": 16}  # the head's size, as in released ones but the largest
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IN_16_BITS = ["--model.quantization", "none", "--model.lora.target_modules", "[q_proj,k_proj,v_proj,o_proj]"]


@dataclass(frozen=True, slots=True)
class Base:
    """model_type and options of its config; flags of `fit`. text_part: as `scripts/write_text_part.py` writes it."""

    model_type: str
    options: dict[str, Any]
    flags: Sequence[str] = ()
    text_part: bool = False


BASES = {
    "Llama 2": Base("llama", {"num_key_value_heads": 4}),
    "Llama 3.1": Base("llama", {"rope_parameters": LLAMA3, "max_position_embeddings": 512}),
    "Llama 3.2": Base("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "Mistral 0.1": Base("mistral", {"sliding_window": WINDOW}),
    "Mistral 0.3": Base("mistral", {"sliding_window": None}),
    "Qwen2.5": Base("qwen2", {"tie_word_embeddings": True}),
    "Qwen3": Base("qwen3", {"tie_word_embeddings": True}),
    "Gemma 2": Base("gemma2", {"sliding_window": WINDOW, **SCALE, **CAPS}),
    "Gemma 3, text": Base("gemma3_text", {"sliding_window": WINDOW, **SCALE}),
    "Gemma 3 4B": Base("gemma3", {"sliding_window": WINDOW}),
    "Gemma 3 4B, its text part": Base("gemma3", {"sliding_window": WINDOW, **SCALE}, text_part=True),
    "Phi-3 mini": Base("phi3", {"sliding_window": WINDOW, "tie_word_embeddings": False}),
    "Phi-3 mini 128k": Base("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": TRAINED_LENGTH}),
    "Phi-4": Base("phi3", {"sliding_window": None}),
    "SmolLM3": Base("smollm3", {"num_hidden_layers": 4, "tie_word_embeddings": True}),
    "OLMo 2": Base("olmo2", {}),
    "OLMo 3": Base("olmo3", {"sliding_window": WINDOW, "num_hidden_layers": 4}),
    "Granite 3": Base("granite", {**GRANITE, "tie_word_embeddings": True}),
    "Cohere 2": Base("cohere2", {"sliding_window": WINDOW, "logit_scale": 0.25, "num_hidden_layers": 4}),
    "StableLM 2": Base("stablelm", {"use_qkv_bias": True}),
    "GPT-NeoX": Base("gpt_neox", {}),
    "Mixtral": Base("mixtral", {}),
    "Mixtral, 16 bits": Base("mixtral", {}, IN_16_BITS),
    "Qwen3-MoE": Base("qwen3_moe", {}),
    "Qwen3-MoE, 16 bits": Base("qwen3_moe", {"norm_topk_prob": True}, IN_16_BITS),
}


@dataclass(slots=True)
class Figures:
    """isolation: packed against lone losses of the trained network; loss: of the untrained base against plain
    transformers; both relative, of all tokens. texts: greedy ones of plain transformers that are written too, of how
    many. kl_nf4, kl_16bit: mean nats a token of what plain transformers makes of the merged files against the trained
    network on packed rows, with the base in 4 bits and in 16; kl_adapter: what the adapter changes, in the same unit.
    kl_gguf: of plain transformers on the merged files against llama.cpp on a GGUF file of them in fp32; no_gguf: why
    there is none. refused: the one line, with its command.
    """

    isolation: float | None = None
    loss: float | None = None
    engine: str = ""  # slots or hf
    texts: tuple[int, int] | None = None
    kl_nf4: float | None = None
    kl_16bit: float | None = None
    kl_adapter: float | None = None
    kl_gguf: float | None = None
    no_gguf: str = ""
    refused: str = ""


class Refused(Exception):
    pass


def write_base(base: Base, folder: Path, tokenizer: Path) -> None:
    """In bf16, so that a merge rounds what the adapter adds alone."""
    text_type = "gemma3_text" if base.model_type == "gemma3" else base.model_type
    config = tiny_config(text_type, **{"vocab_size": IDS} | base.options)
    if base.model_type == "gemma3":
        config = Gemma3Config(text_config=config.to_dict(), vision_config=VISION)
    model = plain_model(config)
    model.generation_config.pad_token_id = None
    torch.nn.Module.to(model, torch.bfloat16)
    whole = folder.with_name("whole") if base.text_part else folder
    model.save_pretrained(whole)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(whole)
    if base.text_part:
        run_path("scripts/write_text_part.py")["write_text_part"](str(whole), folder)


def run(*args: object) -> None:
    """A command as its user runs it. Raises Refused where it ends with 2."""
    err = StringIO()
    try:
        with redirect_stderr(err), redirect_stdout(StringIO()):
            main([str(arg) for arg in args])
    except SystemExit as ended:
        if ended.code:
            assert ended.code == 2
            raise Refused(err.getvalue().strip().splitlines()[-1].removeprefix("revinst ")) from None


def run_chain(base: Base, folder: Path, tokenizer: Path) -> Figures:
    """Three steps of training, then all that can be done with them. Raises whatever is no refusal."""
    figures = Figures()
    try:
        write_base(base, folder / "base", tokenizer)
        with torch.no_grad():
            measure_base(figures, folder / "base")
        use(base, folder)
        with torch.no_grad():
            measure_run(figures, folder)
            measure_gguf(figures, folder)
    except (Refused, UserError) as refused:
        figures.refused = str(refused).replace(f"{folder}/", "")
    return figures


def use(base: Base, folder: Path) -> None:
    """fit, evaluate, generate, merge."""
    text = {"response": "The museum keeps its textile room dark since light fades plant dyes and makes silk brittle."}
    (folder / "texts.jsonl").write_text(json.dumps(text) + "\n")
    settings = {
        "runs_dir": folder,
        "run_name": "run",
        "model.base": folder / "base",
        "model.optimizer": "adamw",
        "model.lr": 0.01,
        "data.source": "quickstart",
        "data.seq_len": 256,
        "data.rows_per_step": 2,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.max_steps": 3,
        "trainer.enable_progress_bar": "false",
        "samples.every_steps": 0,
    }
    run("fit", *[part for key, value in settings.items() for part in (f"--{key}", value)], *base.flags)
    short = ["--max_new_tokens", 8, "--precision", "fp32"]
    run("evaluate", folder / "run", "--limit", 2, *short)
    run("generate", folder / "run", folder / "texts.jsonl", "--output", folder / "out.jsonl", *short)
    for onto in ("nf4", "16bit"):
        if onto == "16bit" or "nf4" in (folder / "run" / "config.yaml").read_text():
            run("merge", folder / "run", folder / onto, "--onto", onto, "--drift_rows", 0)


def load_plain(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=FP32, attn_implementation="eager").eval()


def measure_base(figures: Figures, folder: Path) -> None:
    documents, plain = draw_documents(), load_plain(folder)
    generate = cast(Callable[..., Tensor], plain.generate)
    network = load_for_inference(str(folder), None, CPU, "none", FP32)
    expected = torch.cat([plain_nll(plain, document) for document in documents])
    figures.loss = relative(network.token_nll(pack(documents)), expected)
    tokenizer = load_tokenizer(str(folder))
    with redirect_stderr(StringIO()):
        engine = Engine(network, tokenizer, GenerationSettings(max_new_tokens=12, precision="fp32"))
    figures.engine = "slots" if engine.in_slots else "hf"
    same = 0
    for number, made in engine.generate([document.tolist() for document in documents]):
        ids = documents[number][None]
        new = generate(ids, do_sample=False, max_new_tokens=12, eos_token_id=tokenizer.eos_id)[0, ids.shape[1] :]
        same += made.token_ids == [token for token in new.tolist() if token != tokenizer.eos_id]
    figures.texts = same, len(documents)


def measure_run(figures: Figures, folder: Path) -> None:
    documents = draw_documents()
    for onto, quantization in (("nf4", "nf4"), ("16bit", "none")):
        if not (folder / onto).exists():
            continue
        network = load_for_inference(str(folder / "base"), folder / "run" / "adapter", CPU, quantization, FP32)
        alone = torch.cat([network.token_nll(pack([document])) for document in documents])
        figures.isolation = relative(network.token_nll(pack(documents)), alone)
        merged = load_plain(folder / onto)
        logits = [merged(input_ids=document[None], use_cache=False).logits[0] for document in documents]
        trained = network.target_log_p(pack(documents))
        setattr(figures, f"kl_{onto}", divergence(trained, torch.cat(logits).log_softmax(-1)))
        with network.without_adapter():
            figures.kl_adapter = divergence(trained, network.target_log_p(pack(documents)))


def measure_gguf(figures: Figures, folder: Path) -> None:
    """Not at all where llama.cpp can't be installed."""
    merged, file = folder / "16bit", folder / "merged.gguf"
    try:
        write_exact_gguf(merged, file, load_tokenizer(str(merged)))
        (read,) = read_with("llama.cpp", LLAMA_CPP, [file], TEXTS, folder)
    except UserError as error:
        figures.no_gguf = str(error).removeprefix("GGUF: ")
        return
    except pytest.skip.Exception as skipped:
        figures.no_gguf = f"untested: {skipped}"
        return
    plain = load_plain(merged)
    assert min(map(len, read["ids"])) > TRAINED_LENGTH
    logits = torch.cat([plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in read["ids"]])
    here, there = logits.double().log_softmax(-1), torch.cat(read["logits"]).double().log_softmax(-1)
    figures.kl_gguf = divergence(here, there)


def divergence(p: Tensor, q: Tensor) -> float:
    """Mean KL of log-probabilities [T, V], nats a token."""
    return (p.exp().double() * (p.double() - q.double())).sum(-1).mean().item()


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()
