"""Memory that really runs out on a GPU: a micro-batch's rows are halved, and the same step goes on."""

import pytest
import torch

from revinst.model.hardware import free_bytes
from tests.tiny import build_data, build_module, build_trainer, write_tiny_llama

pytestmark = pytest.mark.gpu
LLAMA = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 8}


@pytest.fixture
def capped(request):
    """The process may take so many MiB more than it has."""
    device = torch.device("cuda", torch.cuda.current_device())

    def cap(mib: int) -> None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(device) + mib * 2**20) / total)
        assert abs(free_bytes(device) / 2**20 - mib) < 64

    yield cap
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_a_step_goes_on_with_fewer_rows(base, tmp_path, capsys, capped, kernels):
    from pathlib import Path

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    llama = write_tiny_llama(tmp_path / "llama", Path(base), torch.bfloat16, num_key_value_heads=8, **LLAMA)
    adapters = []
    for mib in (60_000, 1300):
        capped(mib)
        torch.manual_seed(3)
        module = build_module(llama, quantization="nf4", kernels=kernels, activation_memory_gib=64)
        data = build_data(llama, seq_len=1024, rows_per_step=8, micro_batch_size=8)
        trainer = build_trainer(tmp_path, max_steps=2, accelerator="cuda", precision="bf16-mixed")
        trainer.fit(module, datamodule=data)
        adapters.append(torch.cat([p.detach().float().flatten().cpu() for p in module.network.trainable_parameters()]))
        sizes = module.micro_batch_size
        del module, trainer
    said = [line for line in capsys.readouterr().out.splitlines() if "memory ran out" in line]
    print(said)
    assert said and said[0].startswith("step 0: memory ran out with 8 rows a forward; goes on with 4") and sizes < 8
    assert (adapters[0] - adapters[1]).norm() / adapters[0].norm() < 0.05
