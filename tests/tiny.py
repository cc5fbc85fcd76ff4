"""A tiny random Llama with the quickstart model's tokenizer, and fits that take seconds. For speed only."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from revinst.config.settings import DataSettings, LoraSettings, ModelSettings
from revinst.data.datamodule import InstructionDataModule
from revinst.training.module import InstructionModule

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tiny_config(**options: Any) -> LlamaConfig:
    """Two layers of grouped-query attention."""
    defaults: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return LlamaConfig(**defaults | options)


def write_tiny_llama(folder: Path, tokenizer: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(tiny_config(vocab_size=49152, bos_token_id=1, eos_token_id=2, **options))
    model.to(dtype).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder)
    return folder


def write_peft_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """A random adapter, made and saved by PEFT alone, as TRL, Unsloth and axolotl save theirs."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(**options | settings))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = 0.1 if "lora_" in name else 0.3 * parameter.abs().mean().item()
            parameter.data += scale * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def build_module(base: Path, **options: Any) -> InstructionModule:
    defaults: dict[str, Any] = {
        "base": str(base),
        "quantization": "none",
        "optimizer": "adamw",
        "lora": LoraSettings(r=4, alpha=8, dropout=0.0),
        "warmup_frac": 0.0,
        "lr": 1e-3,
        "max_grad_norm": 1e9,
    }
    return InstructionModule(ModelSettings(**defaults | options))


def build_data(base: Path, **options: Any) -> InstructionDataModule:
    defaults: dict[str, Any] = {
        "source": "quickstart",
        "seq_len": 256,
        "heldout_fraction": 0.1,
        "val_fraction": 0.02,
        "rows_per_step": 6,
        "micro_batch_size": 6,
    }
    return InstructionDataModule(DataSettings(**defaults | options), str(base))


def build_trainer(folder: Path, **options: Any) -> L.Trainer:
    defaults: dict[str, Any] = {
        "max_steps": 1,
        "accelerator": "cpu",
        "precision": "32-true",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
        "default_root_dir": str(folder),
    }
    return L.Trainer(**defaults | options)


def run_in_process(*args: object) -> int:
    """The exit code of a `revinst` command."""
    from revinst import cli

    try:
        cli.main([str(arg) for arg in args])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
