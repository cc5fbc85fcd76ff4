"""A model's files read and written one tensor at a time: its weights are never in memory together."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.model.fingerprint import check_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base's folder. `files`: which safetensors file holds each tensor."""

    folder: Path
    config: "PreTrainedConfig"
    files: dict[str, Path]

    def shape(self, name: str) -> torch.Size:
        from safetensors import safe_open

        with safe_open(self.files[name], framework="pt") as file:
            return torch.Size(file.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One tensor, mapped only as long as it is used. Raises UserError when its file is broken."""
        from safetensors import SafetensorError, safe_open

        # Opened anew for each tensor: pages of a mapping count as ours until it is closed.
        try:
            with safe_open(self.files[name], framework="pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.files[name]}: {name} can't be read ({str(error).splitlines()[0]})") from None


def check_not_quantized(config: "PreTrainedConfig", base: str) -> None:
    if getattr(config, "quantization_config", None):
        raise UserError(
            f"model.base {base}: its weights are stored quantised; name the 16-bit model they were made from (--base)"
        )


def open_base(base: str) -> BaseFiles:
    """A hub id (its files are fetched, or found in the hub's cache) or a folder.

    Raises UserError for a base that is stored quantised: its 16-bit weights are not in it.
    """
    from transformers import AutoConfig

    folder = Path(check_folder(base))
    if not folder.is_dir():
        folder = fetch_base(base)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a wrong value fails where it is used, in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"model.base {base}: its config.json can't be read ({reason})") from None
    check_not_quantized(config, base)
    return BaseFiles(folder, config, index_tensors(folder))


def fetch_base(base: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "tokenizer*", "LICENSE*", "README.md", "*.jinja"]
    try:
        return Path(check_folder(snapshot_download(base, allow_patterns=patterns)))
    except UserError:
        raise
    except Exception as error:  # the hub client raises its own kinds, httpx's and the operating system's
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"model.base {base}: it can't be fetched ({reason})") from error


def index_tensors(folder: Path) -> dict[str, Path]:
    """The file of each tensor, from the shards' own headers."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except FileNotFoundError:
        names = ["model.safetensors"]
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{index}: not an index of shards") from None
    files: dict[str, Path] = {}
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                files |= dict.fromkeys(file.keys(), folder / name)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / name}: can't be read ({str(error).splitlines()[0]})") from None
    return files


def write_tensors(path: Path, shapes: dict[str, torch.Size], make: Callable[[str], Tensor]) -> None:
    """A safetensors file of bf16 tensors, each of them made when its turn comes.

    safetensors' own writer takes all of a file at once, and copies them. The format is a JSON header, its length before
    it, and the numbers behind it: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + shape.numel() * torch.bfloat16.itemsize
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            tensor = make(name)
            assert tensor.dtype == torch.bfloat16 and tensor.shape == shape, name
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)


def build_empty_model(config: "PreTrainedConfig", base: str) -> "PreTrainedModel":
    """The architecture on the meta device: names and shapes, no memory. base: what an error names."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except Exception as error:  # a wrong value fails where it is used, in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"model.base {base}: no model can be built from its config.json ({reason})") from error
