"""Fused layers on a GPU: with the adapter off in one pass and on in another (a penalty on the distance to the base);
with a window.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, MistralConfig

from revinst.config.settings import LoraSettings
from revinst.data.batch import MicroBatch, collate_rows
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.base import load_base
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.fused.support import choose_layers, fuse_layers
from revinst.model.hardware import Machine, has_fp8, has_triton
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from revinst.model.proof import choose_proved
from revinst.model.recompute import recompute_layers
from tests.tiny import build_data, write_tiny_llama

pytestmark = pytest.mark.gpu
LLAMA = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.mark.parametrize("recomputed", [0, 2, 4])
def test_a_penalty_on_the_distance_to_the_base(base, tmp_path, recomputed):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    cuda = torch.device("cuda")
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=2, **LLAMA)
    data = build_data(llama, seq_len=1024)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[:4]).to(cuda)
    found = {}
    for kernels in ("plain", "fused"):
        torch.manual_seed(1)
        model = attach_lora(load_base(str(llama), cuda, "nf4", "sdpa"), LoraSettings(r=8, dropout=0.0), str(llama))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        network = Network(model).train()
        layers = network.layers
        fused, _ = choose_layers(layers, kernels, on_gpu=True, triton=has_triton(cuda))
        recompute_layers(network, [n for n in range(recomputed) if n not in fused])
        fuse_layers(layers, fused, recomputed, rows_by_sdpa(BACKENDS["sdpa"].packed))
        assert len(fused) == (4 if kernels == "fused" else 0)
        with torch.autocast("cuda", torch.bfloat16):
            ours = network.hidden(batch)
            with network.without_adapter(), torch.no_grad():
                of_base = network.hidden(batch)
            penalty = (ours.float() - of_base.float()).square().mean()
        penalty.backward()
        found[kernels] = penalty.item(), torch.cat([p.grad.flatten() for p in network.trainable_parameters()])
    (plain, gradient), (penalty, of_fused) = found["plain"], found["fused"]
    assert plain > 0.01 and penalty == pytest.approx(plain, rel=0.02)
    assert (of_fused - gradient).norm() < 0.05 * gradient.norm()


@pytest.mark.parametrize("backend", ["flash", "varlen"])
@pytest.mark.parametrize("window", [1, 100, 4096])
def test_a_mistrals_window(base, tmp_path, window, backend):
    """Loss and gradient in bf16 against plain layers with the textbook's attention."""
    cuda = torch.device("cuda")
    if not torch.cuda.is_available() or BACKENDS[backend].why_not(cuda, torch.bfloat16):
        pytest.skip(f"needs a CUDA GPU with {backend}")
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=2, **LLAMA)
    data = build_data(llama, seq_len=1024)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[:4]).to(cuda)
    values = AutoConfig.from_pretrained(llama).to_dict()
    values |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": window}
    MistralConfig.from_dict(values).save_pretrained(llama)
    compare_with_textbook(llama, batch, backend)


@pytest.mark.parametrize("kind", ["bf16", "fp8_backward"])
def test_gemma_3_with_heads_of_256(base, tmp_path, kind):
    """The kernel that `auto` takes for them, as packages have it; windows shorter than some documents."""
    cuda = torch.device("cuda")
    if not torch.cuda.is_available() or (kind != "bf16" and not has_fp8(cuda)):
        pytest.skip("needs a CUDA GPU, for products in 8 bits of compute capability 8.9")
    llama = write_tiny_llama(tmp_path / "gemma", Path(base), torch.bfloat16, **LLAMA)
    data = build_data(llama, seq_len=1024)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[:4]).to(cuda)
    sizes = LLAMA | {"num_key_value_heads": 2, "head_dim": 256, "query_pre_attn_scalar": 256}
    layers = ["sliding_attention"] * 3 + ["full_attention"]
    config = Gemma3TextConfig(vocab_size=49152, sliding_window=64, layer_types=layers, **sizes)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(llama)
    assert max(batch.seq_lens) > 64
    attention = choose_proved(str(llama), Machine(device=cuda)).attention
    print(f"heads of 256: {attention}")
    compare_with_textbook(llama, batch, attention, BaseGemm(kind))


def compare_with_textbook(llama: Path, batch: MicroBatch, backend: str, gemm: BaseGemm = BaseGemm()) -> None:  # noqa: B008
    """Loss and gradient of fused layers, two of four offloaded, and of plain ones with the textbook's attention."""
    found, cuda = {}, torch.device("cuda")
    for kernels, attention in (("plain", "eager"), ("fused", backend)):
        torch.manual_seed(1)
        model = attach_lora(load_base(str(llama), cuda, "nf4", attention), LoraSettings(r=8, dropout=0.0), str(llama))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        network = Network(model).train()
        fused, _ = choose_layers(network.layers, kernels, on_gpu=True, triton=has_triton(cuda))
        fuse_layers(network.layers, fused, 2, rows_by_sdpa(BACKENDS[attention].packed), gemm)
        assert len(fused) == (4 if kernels == "fused" else 0)
        with torch.autocast("cuda", torch.bfloat16):
            loss = network.token_nll(batch).mean()
        loss.backward()
        found[kernels] = loss.item(), torch.cat([p.grad.flatten() for p in network.trainable_parameters()])
    bound = 0.05 if gemm.kind == "bf16" else 0.2
    (plain, gradient), (loss, of_fused) = found["plain"], found["fused"]
    assert loss == pytest.approx(plain, rel=2e-3) and (of_fused - gradient).norm() < bound * gradient.norm()
