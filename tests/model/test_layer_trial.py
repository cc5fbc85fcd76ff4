"""Fused layers whose kernels come out wrong on a machine are seen before they train anything."""

from pathlib import Path

import pytest
import torch

from revinst.config.settings import LoraSettings
from revinst.model import layer_trial
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.attention_trial import why_not_size
from revinst.model.base import load_base
from revinst.model.fused import reference
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.hardware import has_fp8
from revinst.model.layer_trial import first_of_each_kind, why_not_computed
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from tests.model.test_fused_bases import CASES, build
from tests.tiny import run_in_process

CPU = torch.device("cpu")
KERNEL = rows_by_sdpa(BACKENDS["sdpa"].packed)
KERNEL_OF_CAPS = BACKENDS["eager"].packed
KINDS = ("bf16", "fp8_backward", "fp8")


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def network(request, tiny_llama) -> Network:
    base = load_base(str(tiny_llama), CPU, "nf4", "sdpa", request.param)
    return Network(attach_lora(base, LoraSettings(r=4, alpha=8, dropout=0.3), str(tiny_llama))).train()


def ask(network: Network, kind: str = "bf16", recomputed: int = 0) -> str:
    return why_not_computed(network, [0, 1], recomputed, KERNEL, BaseGemm(kind))


@pytest.mark.parametrize("recomputed", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_what_plain_layers_compute(network, kind, recomputed, monkeypatch):
    """By a wide margin, and nothing is left behind."""
    before = {name: p.clone() for name, p in network.named_parameters()}
    random, seen = torch.get_rng_state(), []
    distances = layer_trial.distances
    monkeypatch.setattr(layer_trial, "distances", lambda *pair: seen.append(distances(*pair)) or seen[-1])
    assert not ask(network, kind, recomputed)
    assert torch.get_rng_state().equal(random) and all(module.training for module in network.modules())
    assert all(p.equal(before[name]) and p.grad is None for name, p in network.named_parameters())
    assert all(type(layer.forward).__name__ == "method" for layer in network.layers)
    (found,) = seen
    assert all(away < layer_trial.bound(network, BaseGemm(kind), what) / 3 for what, away in found.items())
    if kind == "bf16" and network.dtype == torch.float32:
        assert max(found.values()) < 1e-5


def test_whatever_device_new_tensors_go_to(network):
    """Lightning builds a network while that is the rank's GPU, where a generator of the CPU draws nothing."""
    with torch.device("meta"):
        assert not ask(network)
        assert not why_not_size(BACKENDS["sdpa"].packed, CPU, torch.float32, 48)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_while_new_tensors_go_there(tiny_llama, kind):
    cuda = torch.device("cuda")
    if not torch.cuda.is_available() or (kind != "bf16" and not has_fp8(cuda)):
        pytest.skip("needs a CUDA GPU, for products in 8 bits of compute capability 8.9")
    base = load_base(str(tiny_llama), cuda, "nf4", "sdpa", torch.bfloat16)
    network = Network(attach_lora(base, LoraSettings(r=4, alpha=8), str(tiny_llama))).train()
    with cuda:
        assert not ask(network, kind, recomputed=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{kind} {[*options]}" for kind, options in CASES])
def test_no_base_is_refused_for_nothing(kind, options, dtype):
    network = Network(build(kind, options, dropout=0.1).to(dtype))
    fused = list(range(len(network.layers)))
    for gemm in KINDS:
        assert not why_not_computed(network, fused, len(fused), KERNEL_OF_CAPS, BaseGemm(gemm))


def wrong(name):
    """`reference` with one function that returns, or leaves, what nobody computed."""

    def function(*arguments, **others):
        result = getattr(reference, name)(*arguments, **others)
        for tensor in (*arguments, *others.values(), *(result if isinstance(result, tuple) else [result])):
            if isinstance(tensor, torch.Tensor) and tensor is not arguments[0] and tensor.is_floating_point():
                tensor.zero_()
        return result

    ops = type("Ops", (), {key: staticmethod(value) for key, value in vars(reference).items() if callable(value)})
    ops.E4M3 = reference.E4M3
    setattr(ops, name, staticmethod(function))
    return ops


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("norm", "bf16", "output"),
        ("glu", "bf16", "output"),
        ("fill_base", "bf16", "output"),
        ("glu_backward", "bf16", "gradient"),
        ("norm_backward", "bf16", "gradient"),
        ("multiply_fp8", "fp8", "output"),
        ("multiply_fp8", "fp8_backward", "gradient"),
    ],
)
def test_kernels_that_compute_nothing_are_seen(network, name, kind, words, monkeypatch):
    monkeypatch.setattr(layer_trial, "load_ops", lambda device: wrong(name))
    assert f"{words} of layer 0 differs by" in ask(network, kind)


def test_what_is_not_a_number_is_seen(network, monkeypatch):
    monkeypatch.setattr(reference, "rotate", lambda x, cos, sin, out, backward=False: out.fill_(float("nan")))
    assert "differs by nan %" in ask(network)


def test_kernels_that_fail_are_named(network, monkeypatch):
    def rotate(*arguments, **others):
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(reference, "rotate", rotate)
    found = ask(network)
    assert found == "layer 0 fails (RuntimeError no kernel image is available for execution on the device)"


def test_memory_that_runs_out_is_no_fault_of_the_kernels(network, monkeypatch):
    def rotate(*arguments, **others):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reference, "rotate", rotate)
    with pytest.raises(torch.OutOfMemoryError):
        ask(network)


def test_what_overflows_in_plain_layers_is_left_to_the_first_step(network, monkeypatch):
    attempt = layer_trial.attempt

    def overflowing(forward, layer, x, others):
        return attempt(lambda *x, **others: float("inf") * forward(*x, **others), layer, x, others)

    monkeypatch.setattr(layer_trial, "attempt", overflowing)
    assert not ask(network)


def test_projections_of_zeros_are_no_difference(tiny_llama):
    """As blocks that were added to a base have them, with q's and v's adapters alone: no gradient reaches these."""
    base = load_base(str(tiny_llama), CPU, "none", "sdpa", torch.float32)
    for layer in base.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    settings = LoraSettings(r=4, target_modules=["q_proj", "v_proj"])
    network = Network(attach_lora(base, settings, str(tiny_llama)))
    assert not why_not_computed(network, [0, 1], 0, KERNEL, BaseGemm())


def test_layers_of_each_kind_are_tried():
    """Gemma 3's windows, on the first layers of each kind; Llama's layers are all alike."""
    gemma = build("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4})
    assert first_of_each_kind(Network(gemma).layers, [0, 1, 2, 3]) == [0, 1]
    assert first_of_each_kind(Network(gemma).layers, [2, 3]) == [2, 3]


def test_a_fit_stops_in_one_line(tiny_llama, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(layer_trial, "load_ops", lambda device: wrong("glu"))
    settings = {
        "model.base": tiny_llama,
        "model.kernels": "fused",
        "data.source": "quickstart",
        "data.seq_len": 256,
        "runs_dir": tmp_path,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 1,
    }
    code = run_in_process("fit", *(part for key, value in settings.items() for part in (f"--{key}", value)))
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and "fused layers come out wrong on" in line and "model.kernels: plain" in line
