"""Bases with the shape of released ones and random weights, for measuring speed and memory where no weights are.

usage: shapes.py SHAPE FOLDER --tokenizer FOLDER [--like SHAPE] [--layers N] [--tiny] [--no_weights]

Sizes are of the released configs. --like: with the sizes of another shape, so that two kinds of layers are compared at
equal FLOP and with an equal cache. --tiny: two small layers, for a rehearsal on a CPU. A vocabulary that is smaller
than the tokenizer's becomes as large. A base that chats gets turn tokens and a chat template of its kind. Weights are
bf16, of the initialisation of transformers.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from revinst.options import Parser

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
GEMMA3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
}
SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "llama2-7b": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    "llama3.1-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_parameters": LLAMA3_ROPE,
    },
    "mistral-7b": {
        "model_type": "mistral", "vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "sliding_window": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "qwen3-8b": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "gemma3-4b": {
        "model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131072, "sliding_window": 1024, "query_pre_attn_scalar": 256,
        "rope_parameters": GEMMA3_ROPE,
    },
}  # fmt: skip
# What begins a turn of its chat, around the role; what ends it; what the answering role is called.
TURNS = {
    "llama3.1-8b": ("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "assistant"),
    "qwen3-8b": ("<|im_start|>", "\n", "<|im_end|>\n", "assistant"),
    "gemma3-4b": ("<start_of_turn>", "\n", "<end_of_turn>\n", "model"),
}
TINY = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder whose tokenizer is taken")
    parser.add_argument("--like", choices=SHAPES)
    parser.add_argument("--layers", type=int, help="fewer than it has")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no_weights", action="store_true", help="all that `revinst plan` needs")
    options = parser.parse_args()
    changes = (TINY if options.tiny else {}) | ({"num_hidden_layers": options.layers} if options.layers else {})
    make = write_config if options.no_weights else make_shape
    make(options.shape, options.folder, options.tokenizer, options.like, changes)
    if options.shape in TURNS:
        add_chat(options.shape, options.folder)


@contextmanager
def base_folder(
    base: str, tokenizer: Path | None, like: str | None = None, tiny: bool = False, layers: int | None = None
) -> Iterator[str]:
    """A base's folder: itself, or a shape by its name, made in a process of its own and deleted afterwards."""
    if Path(base).is_dir():
        yield base
        return
    if base not in SHAPES or tokenizer is None:
        raise SystemExit(f"{base}: no such folder; for a shape ({', '.join(SHAPES)}) give --tokenizer FOLDER too")
    with tempfile.TemporaryDirectory() as folder:
        options = (["--like", like] if like else []) + (["--layers", str(layers)] if layers else []) + ["--tiny"] * tiny
        subprocess.run([sys.executable, __file__, base, folder, "--tokenizer", str(tokenizer), *options], check=True)
        yield folder


def make_shape(shape: str, folder: Path, tokenizer: Path, like: str | None, changes: Mapping[str, Any]) -> None:
    """Weights, config and tokenizer into a folder. changes: of the config's values."""
    import torch
    from transformers import AutoModelForCausalLM

    config = write_config(shape, folder, tokenizer, like, changes)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="5GB")


def write_config(
    shape: str,
    folder: Path,
    tokenizer: Path,
    like: str | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> "PreTrainedConfig":
    """Config and tokenizer into a folder: all that `revinst plan` reads of a base. changes: of the config's values."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    files = [*tokenizer.glob("*token*"), *tokenizer.glob("chat_template.jinja")]
    if not (tokenizer / "tokenizer.json").is_file():
        raise SystemExit(f"{tokenizer}: no tokenizer.json in it")
    values = SHAPES[shape] | ({name: SHAPES[like][name] for name in SIZES} if like else {}) | dict(changes)
    ids = max(Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab().values()) + 1
    if ids > values["vocab_size"]:
        print(f"{shape}: a vocabulary of {ids:,}, the tokenizer's, instead of {values['vocab_size']:,}")
        values["vocab_size"] = ids
    config = AutoConfig.for_model(**values)
    config.architectures, config.dtype = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[values["model_type"]]], "bfloat16"
    config.save_pretrained(folder)
    for file in files:
        shutil.copy(file, folder)
    return config


def add_chat(shape: str, folder: Path) -> None:
    """A chat template of the shape's kind, with its turn tokens; what ends a turn becomes what ends a text."""
    from transformers import AutoTokenizer

    start, middle, end, answers = TURNS[shape]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([part.strip() for part in (start, middle, end) if part.strip()], special_tokens=True)
    tokenizer.eos_token = end.strip()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}"
        + (start + "{{ message.role }}" + middle + "{{ message.content | trim }}" + end)
        + ("{% endfor %}{% if add_generation_prompt %}" + start + answers + middle + "{% endif %}")
    )
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
