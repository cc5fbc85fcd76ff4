"""What transformers, TRL and PEFT call what our keys say: whoever writes one of these names is told ours."""

from collections.abc import Iterable

from revinst.options import say_nearest

OURS = {
    "learning_rate": "model.lr",
    "lr_scheduler_type": "model.lr_schedule",
    "warmup_ratio": "model.warmup_frac",
    "warmup_steps": "model.warmup_frac",
    "optim": "model.optimizer",
    "adam_beta1": "model.betas",
    "adam_beta2": "model.betas",
    "gradient_clipping": "model.max_grad_norm",
    "lora_r": "model.lora.r",
    "lora_rank": "model.lora.r",
    "rank": "model.lora.r",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "lora_target_modules": "model.lora.target_modules",
    "model_name_or_path": "model.base",
    "model_name": "model.base",
    "base_model": "model.base",
    "base_model_name_or_path": "model.base",
    "load_in_4bit": "model.quantization",
    "load_in_8bit": "model.quantization",
    "bnb_4bit_quant_type": "model.quantization",
    "attn_implementation": "model.attention",
    "use_liger_kernel": "model.kernels",
    "gradient_checkpointing": "model.activation_memory_gib",
    "dataset_name": "data.source",
    "dataset": "data.source",
    "train_file": "data.source",
    "dataset_text_field": "data.columns",
    "max_seq_length": "data.seq_len",
    "max_seq_len": "data.seq_len",
    "max_length": "data.seq_len",
    "cutoff_len": "data.seq_len",
    "sequence_len": "data.seq_len",
    "block_size": "data.seq_len",
    "per_device_train_batch_size": "data.micro_batch_size",
    "train_batch_size": "data.rows_per_step",
    "batch_size": "data.rows_per_step",
    "gradient_accumulation_steps": "data.rows_per_step",
    "completion_only_loss": "data.supervise",
    "train_on_inputs": "data.supervise",
    "sample_packing": "data.packing",
    "val_set_size": "data.val_fraction",
    "chat_template": "data.template",
    "num_train_epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "epochs": "trainer.max_epochs",
    "logging_steps": "trainer.log_every_n_steps",
    "eval_steps": "trainer.val_check_interval",
    "predict_with_generate": "val_generation.every_steps",
    "metric_for_best_model": "checkpoint.monitor",
    "load_best_model_at_end": "checkpoint.final",
    "report_to": "trainer.logger",
    "bf16": "trainer.precision",
    "fp16": "trainer.precision",
    "fsdp": "trainer.strategy",
    "deepspeed": "trainer.strategy",
    "save_steps": "checkpoint.every_steps",
    "save_total_limit": "checkpoint.keep_last",
    "output_dir": "runs_dir",
    "seed": "seed_everything",
    "resume_from_checkpoint": "resume",
}


def say_nearest_key(name: str, known: Iterable[str]) -> str:
    """`; did you mean KEY?`: by another library's name for it, or else by likeness. name: as given, dashes and all."""
    names = set(known)
    dashes = "--" * name.startswith("--")
    ours = dashes + OURS.get(name.lstrip("-").rpartition(".")[2].replace("-", "_"), "")
    return f"; did you mean {ours}?" if ours in names else say_nearest(name, names)
