"""Products in 8 bits on a GPU: kernels against their reference, a model against itself in 16 bits, and a fit."""

import math
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from revinst.config.settings import LoraSettings
from revinst.data.batch import collate_rows
from revinst.inference.engine.decoder import Decoder
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.base import load_base
from revinst.model.fused import reference
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.fused.support import choose_layers, fuse_layers
from revinst.model.hardware import has_fp8, has_triton
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from tests.tiny import build_data, build_module, build_trainer, write_tiny_llama

pytestmark = pytest.mark.gpu
LLAMA = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture(autouse=True)
def cuda() -> torch.device:
    if not torch.cuda.is_available() or not has_fp8(torch.device("cuda")):
        pytest.skip("needs a GPU of compute capability 8.9 and Triton")
    torch.manual_seed(0)
    return torch.device("cuda")


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.uint8)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize(("columns", "beside"), [(96, 8), (4096, 0), (22016, 128)])
def test_rows_are_rounded_as_by_the_reference(columns, beside):
    from revinst.model.fused import kernels

    x = torch.randn(37, columns + beside, dtype=torch.bfloat16, device="cuda")[:, :columns]
    x *= torch.logspace(-12, 12, 37, device="cuda")[:, None].bfloat16()
    x[3] = 0
    (values, scale), (expected, of_reference) = kernels.quantize_rows(x), reference.quantize_rows(x)
    assert torch.allclose(scale, of_reference, rtol=1e-6)
    assert (bits(values) == bits(expected)).float().mean() > 0.999  # a scale may be off by its last bit
    assert error(values.float() * scale, x) < 0.03 and values[3].float().eq(0).all()
    for bad in (math.inf, -math.inf, math.nan):
        x[5, 7] = bad
        values, scale = kernels.quantize_rows(x)
        assert not (values[5].float() * scale[5]).isfinite().any() and scale[torch.arange(37) != 5].isfinite().all()


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("outputs", "inputs"), [(320, 192), (1024, 4096)])
def test_weights_are_rounded_as_by_the_reference(packed, transpose, outputs, inputs):
    from revinst.model.fused import kernels, weight_kernels

    if packed:
        base = Linear4bit(inputs, outputs, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        base.weight.data = base.weight.data.bfloat16()
    else:
        base = torch.nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    base = base.cuda()
    assert packed == (weight_kernels.double_nf4(base) is not None)
    scale = reference.fp8_scale(reference.unpack_base(base).abs().amax()).repeat(1, 8)[0, 0]
    shape = (inputs, outputs + 32) if transpose else (outputs, inputs)
    filled = []
    for ops in (kernels, reference):
        whole = torch.zeros(shape, dtype=reference.E4M3, device="cuda")
        ops.fill_base_fp8(base, scale, whole[:, 16 : 16 + outputs] if transpose else whole, transpose)
        filled.append(whole)
    same = (bits(filled[0]) == bits(filled[1])).float().mean().item()
    # the reference rounds what is packed in 4 bits to bf16 first
    assert same > (0.9 if packed else 0.9999) and error(filled[0].float(), filled[1].float()) < 0.02
    weight = reference.unpack_base(base)
    got = filled[0][:, 16 : 16 + outputs] if transpose else filled[0]
    assert error(got.float() * scale, weight.T if transpose else weight) < 0.03


@pytest.mark.parametrize(("tokens", "inputs", "outputs"), [(37, 96, 64), (700, 4096, 1024), (1, 512, 512)])
def test_products(tokens, inputs, outputs):
    from revinst.model.fused import kernels

    x, weight = torch.randn(tokens, inputs, device="cuda"), torch.randn(outputs, inputs, device="cuda")
    bias = torch.randn(outputs, device="cuda", dtype=torch.bfloat16)
    scale = reference.fp8_scale(weight.abs().amax())
    right = (weight / scale).to(reference.E4M3), scale.repeat(1, 8192)[:, :outputs]
    left = kernels.quantize_rows(x.bfloat16())
    for b in (None, bias):
        y = kernels.multiply_fp8(left, right, b, torch.bfloat16)
        assert error(y, reference.multiply_fp8(left, right, b, torch.float32)) < 1e-2
    x[0, 0] = math.inf
    bad = kernels.multiply_fp8(kernels.quantize_rows(x.bfloat16()), right, bias, torch.bfloat16)
    assert not bad[0].isfinite().any() and torch.equal(bad[1:], y[1:])  # a row's bits are its own


def build(base: Path, kind: str, recomputed: int, keeps: bool = False) -> Network:
    torch.manual_seed(1)
    model = attach_lora(load_base(str(base), torch.device("cuda"), "nf4", "sdpa"), LoraSettings(r=8), str(base))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    network = Network(model).train()
    fused, _ = choose_layers(network.layers, "fused", on_gpu=True, triton=has_triton(torch.device("cuda")))
    fuse_layers(network.layers, fused, recomputed, rows_by_sdpa(BACKENDS["sdpa"].packed), BaseGemm(kind, keeps))
    assert len(fused) == 4
    return network


@pytest.mark.parametrize("recomputed", [0, 2, 4])
def test_a_model(base, tmp_path, recomputed):
    """Against the same layers in bf16; with weights that are kept and such that are unpacked, to the bit."""
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=2, **LLAMA)
    data = build_data(llama, seq_len=1024)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[:4]).to("cuda")
    found = {}
    for kind, keeps in (
        ("bf16", False),
        ("fp8_backward", False),
        ("fp8_backward", True),
        ("fp8", False),
        ("fp8", True),
    ):
        network = build(llama, kind, recomputed, keeps)
        torch.manual_seed(2)
        with torch.autocast("cuda", torch.bfloat16):
            loss = network.token_nll(batch).mean()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.trainable_parameters()])
        with network.in_eval_mode(), torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            found[kind, keeps] = loss.item(), gradient, network.token_nll(batch).mean().item()
    loss, gradient, of_eval = found["bf16", False]
    assert found["fp8_backward", False][0] == loss and found["fp8", False][0] == pytest.approx(loss, rel=5e-3)
    assert found["fp8", False][0] != loss and all(each[2] == of_eval for each in found.values())
    for kind, bound in (("fp8_backward", 0.15), ("fp8", 0.3)):
        assert 1e-3 < error(found[kind, False][1], gradient) < bound
        assert found[kind, False][0] == found[kind, True][0]
        assert torch.equal(found[kind, False][1], found[kind, True][1])


@pytest.mark.parametrize("kind", ["fp8_backward", "fp8"])
@pytest.mark.parametrize("memory", [0, "auto"])
def test_a_fit(base, tmp_path, kind, memory):
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=2, **LLAMA)
    losses = {}
    for gemm in ("bf16", kind):
        torch.manual_seed(3)
        module = build_module(llama, quantization="nf4", base_gemm=gemm, activation_memory_gib=memory, lr=1e-3)
        trainer = build_trainer(tmp_path, accelerator="gpu", precision="bf16-mixed", max_steps=8)
        trainer.fit(module, datamodule=build_data(llama, rows_per_step=2))
        losses[gemm] = float(trainer.callback_metrics["train/loss"])
    assert module.reasons["base_gemm"].startswith(kind)
    assert ("are kept" in module.reasons["base_gemm"]) == (memory == "auto")
    assert losses[kind] == pytest.approx(losses["bf16"], rel=0.02)


def test_prompts(base, tmp_path):
    """Read in 8 bits: near 16 bits, to the bit the same in other company, and steps are as they were."""
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=2, **LLAMA)
    model = attach_lora(load_base(str(llama), torch.device("cuda"), "nf4", "sdpa"), LoraSettings(r=8), str(llama))
    network = Network(model).eval()
    prompts, logits, steps = [[*range(5, 5 + length)] for length in (40, 96, 33)], {}, {}
    for fp8 in (False, True):
        with torch.no_grad():
            decoder = Decoder(network, "sdpa", dense=True, fp8_prefill=fp8)
            cache, others = decoder.new_cache(3, 128), decoder.new_cache(3, 128)
            logits[fp8] = decoder.prefill(prompts, cache, range(3))
            # the same length of prefill: cuBLAS may add up otherwise with another number of rows
            again = decoder.prefill([prompts[0], prompts[1][::-1], prompts[2]], others, range(3))
            cache.data.fill_(1.0)
            tokens, lengths = torch.arange(3, device="cuda"), torch.tensor([40, 96, 33], device="cuda")
            steps[fp8] = decoder.step(tokens, lengths, cache, 128)
        assert torch.equal(again[[0, 2]], logits[fp8][[0, 2]]) and not torch.equal(again[1], logits[fp8][1])
    assert 1e-3 < error(logits[True], logits[False]) < 0.2
    assert torch.equal(steps[True], steps[False])
