"""The adapter's tensors and files, in PEFT's own format, so that any tool can read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.model.sharding import gather_whole, take_share
from revinst.runs.files import MARKER, hash_adapter, whole_folder

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

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


def adapter_state(model: "PeftModel") -> dict[str, Tensor]:
    """The adapter's tensors under PEFT's file names, nothing of the base.

    Of a sharded model whole tensors, gathered: then all ranks must call this together.
    """
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: gather_whole(tensor) for name, tensor in state.items()}


def adapter_config(model: "PeftModel") -> "PeftConfig":
    return model.peft_config["default"]


def set_adapter_state(model: "PeftModel", state: dict[str, Tensor], source: str) -> None:
    """Loads adapter tensors. Raises UserError unless names and shapes match exactly: PEFT would only warn."""
    from peft import set_peft_model_state_dict

    own = check_adapter_state(model, state, source)
    set_peft_model_state_dict(model, {name: take_share(tensor, own[name]) for name, tensor in state.items()})


def check_adapter_state(model: "PeftModel", state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
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


def save_adapter(
    model: "PeftModel",
    folder: Path,
    write_beside: Callable[[Path], None] | None = None,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, through a temporary folder.

    write_beside: writes what else the folder shall hold. state: what `adapter_state` gave, where all ranks gathered it
    together.
    """
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in (state or adapter_state(model)).items()}
    with whole_folder(folder) as temporary:
        save_file(state, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        adapter_config(model).save_pretrained(str(temporary))
        if write_beside is not None:
            write_beside(temporary)


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


def check_plain(config: dict[str, Any], path: Path | str) -> None:
    """Refuses what merging does not do exactly, or what would change the base on loading (PiSSA, OLoRA, LoftQ)."""
    from peft import LoraConfig

    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        is_plain = not value or key in EXACT or value == defaults.get(key)
        if not is_plain and not (key == "init_lora_weights" and value == "gaussian"):
            raise UserError(f"{path}: {key} {value!r} is not supported; revinst takes plain LoRA on linear layers")


def load_adapter(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Wraps the base in a PeftModel with the adapter of a folder, every tensor accounted for, ready for inference."""
    from peft import set_peft_model_state_dict

    adapted = wrap_adapter(model, folder)
    set_peft_model_state_dict(adapted, read_adapter_state(adapted, folder, adapted.state_dict().get))
    return adapted.eval()


def wrap_adapter(model: "PreTrainedModel", folder: Path, low_cpu_mem_usage: bool = False) -> "PeftModel":
    """The base with layers for a folder's adapter, not yet its weights. low_cpu_mem_usage: on the meta device."""
    from peft import LoraConfig, get_peft_model

    settings = read_adapter_config(folder)
    known = set(LoraConfig.__dataclass_fields__)
    try:
        config = LoraConfig(**{key: value for key, value in settings.items() if key in known})
        config.inference_mode = True
        return cast("PeftModel", get_peft_model(model, config, low_cpu_mem_usage=low_cpu_mem_usage))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder}/adapter_config.json: it does not fit the base ({str(error).splitlines()[0]})"
        ) from error


def read_adapter_state(
    model: "PeftModel", folder: Path, base_tensor: Callable[[str], Tensor | None]
) -> dict[str, Tensor]:
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


def check_not_merged(base: str, adapter: Path) -> None:
    """Refuses an adapter on a model that it is already merged into: it would count twice. Another one may go on top."""
    marker = Path(base).expanduser() / MARKER
    if not marker.is_file():
        return
    try:
        merged = json.loads(marker.read_text(encoding="utf-8"))["adapter_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{marker}: can't be read, so nobody knows which adapter is in this model") from None
    if merged == hash_adapter(adapter):
        raise UserError(f"{base}: this adapter is already merged into this model; give the base it came from")
