"""Property 4: a fresh adapter changes nothing; training moves all of it and nothing of the base."""

import hashlib

import pytest
import torch

from revinst.config.settings import LoraSettings
from revinst.model.adapter import adapter_state, load_adapter, save_adapter, set_adapter_state
from revinst.model.base import load_base
from revinst.model.lora import attach_lora
from tests.tiny import build_data, build_module, build_trainer

CPU = torch.device("cpu")
IDS = torch.arange(5, 45)[None]


def digest(model) -> dict[str, str]:
    """SHA-256 of everything frozen: packed 4-bit weights, norms, embeddings."""
    return {
        name: hashlib.sha256(p.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, p in model.named_parameters()
        if not p.requires_grad
    }


def test_fresh_adapter_leaves_logits_unchanged(base):
    model = load_base(base, CPU)
    with torch.no_grad():
        before = model(IDS).logits
        model = attach_lora(model, LoraSettings(r=8), base).eval()
        assert torch.equal(model(IDS).logits, before)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
        assert not torch.equal(model(IDS).logits, before)


def test_two_steps_move_all_of_the_adapter_and_nothing_else(base, tmp_path, precision):
    """On the real base in 4 bits, where a wrong dtype, eval mode and a gradient that does not flow show."""
    module = build_module(base, quantization="nf4", activation_memory_gib=0)
    data = build_data(base, rows_per_step=2, seq_len=128)
    seen = {}

    def look(module=module):
        seen.setdefault("adapter", {name: p.clone() for name, p in adapter_state(module.network.model).items()})
        seen.setdefault("base", digest(module.network.model))
        seen["eval"] = [name for name, part in module.named_modules() if not part.training]

    step = module.training_step
    layer_forwards = []

    def training_step(batch, batch_idx):
        look()
        if batch_idx == 0:
            layer = module.network.decoder.layers[0].self_attn
            hook = layer.register_forward_hook(lambda *_: layer_forwards.append(1))
            step(batch, batch_idx)
            hook.remove()
        else:
            step(batch, batch_idx)

    module.training_step = training_step
    build_trainer(tmp_path, max_steps=2, precision=precision).fit(module, datamodule=data)

    trainable = {name: p for name, p in module.network.model.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 7 * 30 and all("lora_" in name for name in trainable)
    assert {p.dtype for p in trainable.values()} == {torch.float32}
    assert seen["eval"] == []
    assert sum(layer_forwards) == 2, "checkpointing runs a layer's forward twice a step"
    assert digest(module.network.model) == seen["base"] and len(seen["base"]) > 200
    assert module.network.decoder.rotary_emb.inv_freq.dtype == torch.float32
    for name, after in adapter_state(module.network.model).items():
        moved = (after != seen["adapter"][name]).float().mean().item()
        assert moved > 0.99, f"{name}: {moved:.3f} of it moved"


def test_quantization_is_qloras(base):
    layers = [m for m in load_base(base, CPU).modules() if type(m).__name__ == "Linear4bit"]
    assert len(layers) == 7 * 30
    for layer in layers:
        state = layer.weight.quant_state
        assert state.quant_type == "nf4" and state.nested and layer.compute_dtype == torch.bfloat16
        assert not layer.support_avx512bf16_for_cpu


def test_saved_adapter_loads_to_the_same_logits(tiny_llama, tmp_path):
    model = attach_lora(load_base(str(tiny_llama), CPU, "none"), LoraSettings(r=4), str(tiny_llama)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
        expected = model(IDS).logits
        save_adapter(model, tmp_path / "adapter")
        loaded = load_adapter(load_base(str(tiny_llama), CPU, "none"), tmp_path / "adapter")
        assert torch.equal(loaded(IDS).logits, expected)


def test_an_adapter_that_does_not_fit_is_refused(tiny_llama):
    model = attach_lora(load_base(str(tiny_llama), CPU, "none"), LoraSettings(r=4), str(tiny_llama))
    state = adapter_state(model)
    name = next(iter(state))
    renamed = {(key if key != name else key + "x"): value for key, value in state.items()}
    smaller = state | {name: state[name][:, :-1]}
    for wrong, reason in ((renamed, "1 tensors missing, 1 unexpected"), (smaller, "1 of another shape")):
        with pytest.raises(ValueError, match=reason):
            set_adapter_state(model, wrong, "adapter")
