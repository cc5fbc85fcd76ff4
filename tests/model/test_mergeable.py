"""What `merge` would refuse, `fit` and `plan` refuse before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from revinst.config.settings import LoraSettings, ModelSettings
from revinst.errors import UserError
from revinst.export.merge import plan_merge
from revinst.model.build import build_empty
from revinst.model.mergeable import check_mergeable
from revinst.model.stored_names import made_of_parts, match_names
from tests.tiny import TOKENIZER_FILES, run_in_process, tiny_config, write_peft_adapter


def check(base: Path, quantization: str = "nf4", **lora: object) -> None:
    settings = ModelSettings(base=str(base), quantization=quantization, lora=LoraSettings(r=2, dropout=0.0, **lora))
    check_mergeable(build_empty(settings.base, settings.lora), settings)


def write_config(folder: Path, model_type: str, **options: object) -> Path:
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    AutoConfig.for_model(model_type, **sizes | heads | options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gpt_neox", "gemma3_text", "granite"])
def test_what_can_be_merged_passes(tmp_path, model_type):
    for quantization in ("nf4", "none"):
        check(write_config(tmp_path, model_type), quantization)


def test_a_base_that_is_stored_quantised(tmp_path):
    write_config(tmp_path, "llama", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(UserError, match="its weights are stored quantised"):
        check(tmp_path)


def test_experts_that_PEFT_adapts_as_one_tensor(tmp_path):
    config = write_config(tmp_path, "qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64)
    with pytest.raises(UserError):
        check(config, target_modules=["q_proj", "experts"])
    check(config, target_modules=["q_proj", "v_proj"])


def test_layers_that_are_stored_in_parts(tmp_path, monkeypatch):
    """Both by the architecture alone, and by the names of files: gate and up of Phi-3 as if they were stored apart."""
    from transformers import conversion_mapping
    from transformers.core_model_loading import Concatenate, WeightConverter

    def converters(*args: object, **options: object) -> list[WeightConverter]:
        sources = ["mlp.gate_proj.weight", "mlp.up_proj.weight"]
        return [WeightConverter(sources, "mlp.gate_up_proj.weight", operations=[Concatenate(dim=0)])]

    base = write_config(tmp_path / "base", "phi3", pad_token_id=0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=torch.bfloat16)
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", converters)
    whole, fused = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"
    assert made_of_parts(model, [whole, fused]) == [fused]
    names = match_names(model, [whole, *(f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up"))])
    assert names.own == {whole: whole} and names.made == {fused} and len(names.parts) == 2
    with pytest.raises(UserError, match=r"holds? model\.layers\.0\.mlp\.gate_up_proj\.weight in other parts"):
        check(base, target_modules=["gate_up_proj"], quantization="none")
    with pytest.raises(UserError, match="in other parts"):
        check(base, target_modules=["o_proj"])
    check(base, target_modules=["o_proj"], quantization="none")


@pytest.mark.wide
@pytest.mark.parametrize("command", ["fit", "plan"])
def test_commands_refuse_in_one_line(base, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "base"
    tiny_config(
        vocab_size=49152, quantization_config={"quant_method": "gptq", "bits": 4, "dataset": "c4"}
    ).save_pretrained(folder)
    (folder / "model.safetensors").touch()
    for name in TOKENIZER_FILES:
        (folder / name).write_text((Path(base) / name).read_text())
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"data": {"source": "quickstart", "seq_len": 256}, "model": {"base": str(folder)}}))
    assert run_in_process(command, *(["--config"] if command == "fit" else []), config) == 2
    said = capsys.readouterr().err
    assert "its weights are stored quantised" in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/checkpoints"))


def test_merge_refuses_what_fit_does(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    AutoModelForCausalLM.from_config(tiny_config(vocab_size=300)).save_pretrained(base)
    write_peft_adapter(base, adapter)
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="stored quantised"):
        plan_merge(str(base), adapter, "16bit")
