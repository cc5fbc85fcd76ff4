"""A step has one wait for the device: where the host reads its numbers. On a CPU; ranks in invariants/test_ranks."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from revinst.config.settings import CheckpointSettings, LoraSettings
from revinst.data.batch import StepBatch
from revinst.runs.metrics import MetricsFile
from revinst.training.metrics import Sum
from revinst.training.run_folder import RunFolder
from revinst.training.throughput import Throughput
from tests.tiny import build_data, build_module, build_trainer
from tests.waits import Waits

CPU = torch.device("cpu")


def reads(waits: Waits) -> list[str]:
    return [found.split(" at ")[0] for found in waits.found]


@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_a_step_waits_once(tiny_llama, tmp_path, monkeypatch, kernels):
    """Also one that is skipped, and the callbacks after it; a micro-batch never."""
    module = build_module(tiny_llama, kernels=kernels, lora=LoraSettings(4, 8, 0.1))
    exact, step, waits, micro_batches = module.micro_batch_loss, module.training_step, [], []

    def micro_batch_loss(batch):
        micro_batches.append(module.step)
        return exact(batch) * (math.nan if module.step == 1 else 1.0)

    def training_step(batch, batch_idx):
        with Waits() as found:
            step(batch, batch_idx)
        waits.append(found)

    module.micro_batch_loss, module.training_step = micro_batch_loss, training_step
    metrics = MetricsFile(tmp_path / "metrics.csv")
    throughput, folder = Throughput(), RunFolder(SimpleNamespace(), "", metrics, CheckpointSettings())
    trainer = build_trainer(tmp_path, max_steps=2, callbacks=[throughput], log_every_n_steps=100)
    trainer.fit(module, datamodule=build_data(tiny_llama, micro_batch_size=2))
    assert len(micro_batches) >= 2 * len(waits) >= 6 and all(reads(found) == ["tolist"] for found in waits), waits[
        0
    ].found
    assert all("training/module.py" in found.found[0] for found in waits)
    with Waits() as found:
        batch = SimpleNamespace(num_tokens=5)
        module._current_fx_name = "on_train_batch_end"
        module.log = lambda name, value, **options: None
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
        folder.on_train_batch_end(trainer, module, None, batch, 0)
    assert found.found == []


def test_the_watch_sees_what_waits():
    number = torch.ones(())
    with Waits() as waits:
        assert max(number, 1) == 1 and float(number) == number.tolist() == number.cpu().item()
        torch.tensor(3.0, device="cpu")
        torch.tensor(3.0)
    assert set(reads(waits)) == {"__bool__", "__float__", "tolist", "cpu", "item", "tensor"}


def test_batches_go_to_a_gpu_through_pinned_memory(tiny_llama):
    """All tensors of all rows, none of them waiting for the device."""
    calls = []

    class Gpu(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.pin_memory, torch.Tensor.to):
                calls.append((func.__name__, args[1:], kwargs or {}))
                return args[0]
            return func(*args, **kwargs or {})

    data = build_data(tiny_llama)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    with Gpu():
        moved = build_module(tiny_llama).transfer_batch_to_device(batch, torch.device("cuda", 0), 0)
    uploads = ("pin_memory", (), {}), ("to", (torch.device("cuda", 0),), {"non_blocking": True})
    assert calls == [*uploads] * 5 * len(batch.rows) and len(batch.rows) == 6
    assert isinstance(moved, StepBatch) and moved.ids == batch.ids
    assert torch.equal(batch.to("cpu", non_blocking=True).rows[0].input_ids, batch.rows[0].input_ids)


def test_sums_are_exact_and_keep_nan():
    """fp64, as counts beyond 2^24 and sums of many losses need, wherever Lightning moves it; NaN shows."""
    count = torch.nn.Sequential(Sum(CPU)).to("cpu").float()[0]
    with Waits() as waits:
        totals = [count.over_ranks(2**24 + 1), count.over_ranks(7)]
        count.update(2**24 + 1)
        count.update(torch.tensor(0.5))
    assert waits.found == [] and [float(total) for total in totals] == [2**24 + 1, 7]
    assert float(count.compute()) == 7 + 2**24 + 1.5 and count.compute().dtype == torch.float64
    count.update(torch.tensor(math.nan))
    assert math.isnan(count.compute())
    with torch.inference_mode():
        count.reset()
    count.update(3)
    assert float(count.compute()) == 3
