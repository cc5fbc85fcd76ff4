"""The adapter: attach, save, load, in PEFT's own format, so that any tool can read it."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from revinst.errors import UserError
from revinst.run import whole_folder

# Settings of an adapter that loading and merging follow exactly.
EXACT = {
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "task_type",
    "auto_mapping",
    "peft_version",
    "peft_type",
    "megatron_core",  # this and the next mean something only beside other settings
    "qalora_group_size",
}
TARGETS_HINT = "name linear layers of the decoder, as in [q_proj, v_proj], or give all-linear"


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (https://arxiv.org/abs/2106.09685).

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: on the adapter's input, in [0, 1).
        target_modules: all-linear (every linear layer but the head), a list such as [q_proj, v_proj], or a regular
            expression that matches whole names. The head is refused: `loss.ChunkedLoss` has no gradient for it.
    """

    r: int = 64
    alpha: int = 16
    dropout: float = 0.1
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self):
        if self.r < 1 or not 0 <= self.dropout < 1:
            raise UserError(f"model.lora: r {self.r} must be at least 1 and dropout {self.dropout} in [0, 1)")
        if self.alpha <= 0:
            raise UserError(
                f"model.lora: alpha {self.alpha} must be above 0; the adapter's output is scaled by alpha / r"
            )


def attach_lora(model: Any, settings: LoraSettings, base: str) -> Any:
    """Wraps the base in a PeftModel with a fresh fp32 adapter whose output is zero.

    It is drawn on the CPU, so a seed gives the same one on every device: Lightning's strategies differ in what is the
    default device while a model is built (2.6.6: FSDP2's sets none).
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    on_meta = next(model.parameters()).is_meta
    try:
        with torch.device("meta" if on_meta else "cpu"):
            model = get_peft_model(model, config, autocast_adapter_dtype=True)
    except (ValueError, re.error) as error:
        what = str(error).splitlines()[0].rstrip("(.")
        raise UserError(f"model.lora.target_modules {settings.target_modules}: {what}; {TARGETS_HINT}") from error
    check_targets(model, settings.target_modules)
    model.peft_config["default"].base_model_name_or_path = base
    return model


def check_targets(model: Any, targets: str | list[str]) -> None:
    """Raises UserError for an entry that matches no layer, which PEFT passes over, or one that can't be trained: not
    linear, or behind the decoder, where the loss takes no gradient but that of its input.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    entries = [] if isinstance(targets, str) else targets
    unmatched = [entry for entry in entries if not any(f".{name}".endswith(f".{entry}") for name in layers)]
    if unmatched or not layers:
        raise UserError(
            f"model.lora.target_modules: {unmatched or targets} matches no layer of the base; {TARGETS_HINT}"
        )
    in_decoder = set(model.get_base_model().get_decoder().modules())
    for name, layer in layers.items():
        kind = type(layer.get_base_layer()).__name__
        if not isinstance(layer.get_base_layer(), torch.nn.Linear):
            raise UserError(f"model.lora.target_modules: {name} is no linear layer but {kind}; {TARGETS_HINT}")
        if layer not in in_decoder:
            raise UserError(
                f"model.lora.target_modules {targets}: {name} is not part of the decoder, and the loss trains nothing "
                f"behind it; {TARGETS_HINT}"
            )


def adapter_state(model: Any) -> dict[str, Tensor]:
    """The adapter's tensors under PEFT's file names, nothing of the base.

    Of a sharded model whole tensors, gathered: then all ranks must call this together.
    """
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: gather_whole(tensor) for name, tensor in state.items()}


def gather_whole(value: Any) -> Any:
    """A sharded tensor as a whole one, on every rank; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def is_sharded(model: Any) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def take_share(value: Any, like: Tensor) -> Any:
    """This rank's share of a whole tensor, laid out as `like` is; where shapes differ, the value as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def set_adapter_state(model: Any, state: dict[str, Tensor], source: str) -> None:
    """Loads adapter tensors. Raises UserError unless names and shapes match exactly: PEFT would only warn."""
    from peft import set_peft_model_state_dict

    own = check_adapter_state(model, state, source)
    set_peft_model_state_dict(model, {name: take_share(tensor, own[name]) for name, tensor in state.items()})


def check_adapter_state(model: Any, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The adapter's own tensors, sharded where the model is, after a check that `state` has the same ones."""
    from peft import get_peft_model_state_dict

    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, unexpected = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unexpected or wrong:
        first = (missing or unexpected or wrong)[0]
        kind = "missing" if missing else "unexpected" if unexpected else "of another shape"
        raise UserError(
            f"{source}: this adapter does not fit the model ({len(missing)} tensors missing, "
            f"{len(unexpected)} unexpected, {len(wrong)} of another shape; the first {kind}: {first})"
        )
    return own


def save_adapter(model: Any, folder: Path, tokenizer: Any = None, state: dict[str, Tensor] | None = None) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, through a temporary folder.

    state: what `adapter_state` gave, where all ranks gathered it together.
    """
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in (state or adapter_state(model)).items()}
    with whole_folder(folder) as temporary:
        save_file(state, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        model.peft_config["default"].save_pretrained(str(temporary))
        if tokenizer is not None:
            tokenizer.save_pretrained(str(temporary))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's settings. Raises UserError when the folder holds no PEFT LoRA adapter."""
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{folder}: no PEFT adapter here (adapter_config.json is missing)") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{path}: not a LoRA adapter")
    check_plain(config, path)
    return config


def check_plain(config: dict[str, Any], path: Path) -> None:
    """Refuses what merging does not do exactly, or what would change the base on loading (PiSSA, OLoRA, LoftQ)."""
    from peft import LoraConfig

    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        is_plain = not value or key in EXACT or value == defaults.get(key)
        if not is_plain and not (key == "init_lora_weights" and value == "gaussian"):
            raise UserError(f"{path}: {key} {value!r} is not supported; revinst takes plain LoRA on linear layers")


def load_adapter(model: Any, folder: Path) -> Any:
    """Wraps the base in a PeftModel with the adapter of a folder, every tensor accounted for, ready for inference."""
    from peft import set_peft_model_state_dict

    model = wrap_adapter(model, folder)
    set_peft_model_state_dict(model, read_adapter_state(model, folder, model.state_dict().get))
    return model.eval()


def wrap_adapter(model: Any, folder: Path, low_cpu_mem_usage: bool = False) -> Any:
    """The base with layers for a folder's adapter, not yet its weights. low_cpu_mem_usage: on the meta device."""
    from peft import LoraConfig, get_peft_model

    settings = read_adapter_config(folder)
    known = set(LoraConfig.__dataclass_fields__)
    try:
        config = LoraConfig(**{key: value for key, value in settings.items() if key in known})
        config.inference_mode = True
        return get_peft_model(model, config, low_cpu_mem_usage=low_cpu_mem_usage)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder}/adapter_config.json: it does not fit the base ({str(error).splitlines()[0]})"
        ) from error


def read_adapter_state(model: Any, folder: Path, base_tensor: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    """The folder's tensors. Raises UserError unless they are exactly those of `model`, and trained.

    base_tensor: the base's own, by its name in `model`. PEFT saves unchanged copies of embedding and head beside an
    adapter on them, or where a vocabulary was resized; they are left out, changed ones are refused.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    if not path.is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(f"{folder}: its weights are pickled (adapter_model.bin); save it again as safetensors")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: can't be read ({str(error).splitlines()[0]})") from None
    for name in state.keys() - adapter_state(model).keys():
        own = base_tensor(name) if "lora_" not in name else None
        if own is not None and own.shape == state[name].shape and torch.equal(own.bfloat16(), state[name].bfloat16()):
            del state[name]
    check_adapter_state(model, state, str(folder))
    if not any(torch.any(tensor != 0) for name, tensor in state.items() if "lora_B" in name):
        raise UserError(f"{path}: the adapter changes nothing (every lora_B is zero); it was never trained")
    return state


def settings_to_json(settings: LoraSettings) -> dict[str, Any]:
    return asdict(settings)
