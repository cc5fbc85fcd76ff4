"""The words that keys and options take, each listed once: a refused one names them, help and completion offer them.

What a word means lies with what obeys it; tests hold both equal. Nothing heavy is imported here.
"""

from revinst.errors import UserError

QUANTIZATIONS = ("nf4", "none")
ATTENTION_BACKENDS = ("flash", "varlen", "sdpa", "eager")
KERNELS = ("auto", "fused", "plain")
BASE_GEMMS = ("auto", "bf16", "fp8_backward", "fp8")
# Each with the bytes of its moments, of both together, a parameter.
OPTIMIZERS = {"paged_adamw_32bit": 8, "paged_adamw_8bit": 2 + 8 / 256, "adamw": 8}
LR_SCHEDULES = ("constant", "linear", "cosine")
# That the blog's prompt is in.
LANGUAGES = tuple("ar de el es fr he hi it ja ko nl pl pt ru th tr uk zh".split())  # noqa: SIM905
TEMPLATES = ("blog", "alpaca", "chat", "forward", *(f"blog.{language}" for language in LANGUAGES))  # or a file
PRECISIONS = {"bf16-mixed": "bf16", "16-mixed": "fp16", "32-true": "fp32"}  # Lightning's name -> the dtype's
DTYPES = tuple(PRECISIONS.values())
ENGINES = ("auto", "slots", "hf")
PICKS = ("greedy", "consensus", "likelihood", "round_trip")
UTILITIES = ("rougeL", "chrf", "mean")
# Of texts that are written in a validation pass, all better when higher; `evaluation/scores.py` computes them.
GENERATED_METRICS = (
    "rouge1", "rouge2", "rougeL", "rouge1_unicode", "rouge2_unicode", "rougeL_unicode", "token_f1", "bleu", "chrf",
)  # fmt: skip
ORDERS = ("time", "group")
MERGE_TARGETS = ("nf4", "16bit")
GGUF_FORMATS = ("bf16", "q8_0", "q4_0", "q4_1")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
LOGGERS = ("tensorboard", "csv", "wandb", "mlflow", "comet")  # or a class of Lightning's

KEY_WORDS: dict[str, tuple[str, ...]] = {
    "data.context": ("drop", "include", "exclude_rows"),
    "data.supervise": ("target", "all"),
    "data.cut": ("end", "middle"),
    "data.packing": ("best_fit", "joined", "none"),
    "data.on_bad_row": ("stop", "skip"),
    "model.quantization": QUANTIZATIONS,
    "model.attention": ("auto", *ATTENTION_BACKENDS),
    "model.kernels": KERNELS,
    "model.base_gemm": BASE_GEMMS,
    "model.optimizer": tuple(OPTIMIZERS),
    "model.lr_schedule": LR_SCHEDULES,
    "checkpoint.monitor": ("val/loss", *(f"val/{metric}" for metric in GENERATED_METRICS)),
    "checkpoint.final": ("last", "best", "mean"),
    "trainer.precision": tuple(PRECISIONS),
    "trainer.accelerator": ACCELERATORS,
    "trainer.strategy": ("auto", "ddp", "fsdp2"),
    "trainer.logger": LOGGERS,
}


def check_words(group: str, settings: object) -> None:
    """Raises UserError for a word that is none of its key's. group: of `KEY_WORDS`, with the dot."""
    for key, words in KEY_WORDS.items():
        if key.startswith(group):
            check_word(key, getattr(settings, key.removeprefix(group)), words)


def check_word(name: str, word: object, words: tuple[str, ...]) -> None:
    if word not in words:
        raise UserError(f"{name} {word!r}: choose from {', '.join(words)}")
