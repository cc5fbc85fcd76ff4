"""fp16: the gradient is fp32's, an overflow costs nothing but time, and the loss scale survives a resume."""

import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from revinst.errors import UserError
from revinst.inference.engine.cached import load_ops as cached_ops
from revinst.model.attention import choose_attention
from revinst.model.attention_kernels import reads_shared_heads
from revinst.model.fused.support import choose_layers
from revinst.model.fused.support import load_ops as fused_ops
from revinst.model.hardware import choose_dtype, has_triton
from revinst.training.module import FIRST_LOSS_SCALE
from tests.invariants.step_gradient import save_gradient
from tests.tiny import build_data, build_module, build_trainer


def few_rows(base):
    """Few CPUs are fast in fp16."""
    return build_data(base, rows_per_step=2, seq_len=64)


def fp16_trainer(folder, **options):
    """On a CPU Lightning takes bf16 for "16-mixed"; a plugin is taken as it is."""
    return build_trainer(folder, precision=None, plugins=[MixedPrecision("16-mixed", "cpu")], **options)


def gradients(base, tmp_path, **options) -> dict[str, torch.Tensor]:
    found = {}
    for name, trainer in (("fp32", build_trainer(tmp_path)), ("fp16", fp16_trainer(tmp_path))):
        out = tmp_path / f"{name}.pt"
        save_gradient(build_module(base, **options), build_data(base, micro_batch_size=2), trainer, out)
        gradient = torch.load(out)["gradient"]
        found[name] = torch.cat([gradient[key].flatten() for key in sorted(gradient)])
    return found


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_the_gradient_before_clipping_is_that_of_fp32(tiny_llama, tmp_path, quantization):
    """Within 2 % (1.1 % was seen): fp16 keeps 11 bits of an activation, the scale all of a gradient's range."""
    found = gradients(tiny_llama, tmp_path, quantization=quantization)
    fp16 = found["fp16"] / FIRST_LOSS_SCALE  # recorded before the scale is taken out
    assert found["fp32"].norm() > 1e-3
    assert (fp16 - found["fp32"]).norm() / found["fp32"].norm() < 2e-2


def overflow(module, at: float) -> list[tuple[int, float]]:
    """Makes gradients infinite above a scale. -> (step, scale) of each backward."""
    seen = []
    backward = module.manual_backward

    def manual_backward(loss):
        backward(loss * (math.inf if module.loss_scale > at else 1.0))
        seen.append((module.step, module.loss_scale))

    module.manual_backward = manual_backward
    return seen


def test_an_overflow_halves_the_scale_and_takes_the_same_rows_again(tiny_llama, tmp_path):
    module, data = build_module(tiny_llama), few_rows(tiny_llama)
    seen = overflow(module, FIRST_LOSS_SCALE / 4)
    trainer = fp16_trainer(tmp_path, max_steps=2)
    trainer.fit(module, datamodule=data)
    scales = [FIRST_LOSS_SCALE, FIRST_LOSS_SCALE / 2, FIRST_LOSS_SCALE / 4]
    assert seen == [(0, scale) for scale in scales] + [(1, scales[-1])]
    assert module.bad_rows == {} and module.step == 2 and data.sampler.next_row == 4
    assert trainer.callback_metrics["train/loss_scale"] == FIRST_LOSS_SCALE / 4


def test_at_scale_1_it_is_a_bad_step(tiny_llama, tmp_path):
    module = build_module(tiny_llama, max_bad_steps=1)
    seen = overflow(module, 0.5)
    with pytest.raises(UserError, match="1 steps in a row were not finite"):
        fp16_trainer(tmp_path).fit(module, datamodule=few_rows(tiny_llama))
    assert [scale for _, scale in seen] == [2.0**n for n in range(16, -1, -1)]
    assert list(module.bad_rows) == [0] and module.step == 1 and module.loss_scale == 1


def test_a_loss_that_is_not_finite_is_a_bad_step_at_once(tiny_llama, tmp_path, monkeypatch):
    """No scale can mend a forward."""
    module = build_module(tiny_llama, max_bad_steps=1)
    exact = module.micro_batch_loss
    monkeypatch.setattr(module, "micro_batch_loss", lambda batch: exact(batch) * math.nan)
    with pytest.raises(UserError, match="1 steps in a row were not finite"):
        fp16_trainer(tmp_path).fit(module, datamodule=few_rows(tiny_llama))
    assert list(module.bad_rows) == [0] and module.loss_scale == FIRST_LOSS_SCALE


def test_the_scale_grows_and_is_in_the_checkpoint(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr("revinst.training.module.GOOD_STEPS_TO_GROW", 2)
    module = build_module(tiny_llama)
    trainer = fp16_trainer(tmp_path, max_steps=3)
    trainer.fit(module, datamodule=few_rows(tiny_llama))
    assert (module.loss_scale, module.good_steps) == (2 * FIRST_LOSS_SCALE, 1)
    trainer.save_checkpoint(tmp_path / "3.ckpt")
    again = build_module(tiny_llama)
    fp16_trainer(tmp_path, max_steps=4).fit(again, datamodule=few_rows(tiny_llama), ckpt_path=tmp_path / "3.ckpt")
    assert (again.loss_scale, again.good_steps) == (4 * FIRST_LOSS_SCALE, 0)


def test_precision_may_change_on_a_resume(tiny_llama, tmp_path, capsys):
    module = build_module(tiny_llama)
    trainer = build_trainer(tmp_path)
    trainer.fit(module, datamodule=few_rows(tiny_llama))
    trainer.save_checkpoint(tmp_path / "1.ckpt")
    again = build_module(tiny_llama)
    fp16_trainer(tmp_path, max_steps=2).fit(again, datamodule=few_rows(tiny_llama), ckpt_path=tmp_path / "1.ckpt")
    assert "precision: goes on in fp16; until step 1 it was fp32" in capsys.readouterr().out
    assert again.loss_scale == FIRST_LOSS_SCALE and again.step == 2


# ---- what a GPU before Ampere may use ------------------------------------------------------------------------------


@pytest.fixture
def t4(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla T4")
    return torch.device("cuda")


def test_nothing_needs_capability_8(t4, tiny_llama):
    """Plain layers, SDPA by document on as many key heads as query heads, a cache without Triton; fp16 by itself."""
    assert choose_dtype(t4) == ("fp16", "Tesla T4 has no bf16")
    assert choose_attention(t4, "auto", torch.float16)[0] == "sdpa"
    for backend in ("flash", "varlen"):
        with pytest.raises(ValueError, match=r"compute capability 8\.0"):
            choose_attention(t4, backend, torch.float16)
    fused, reason = choose_layers([SimpleNamespace()], "auto", on_gpu=True, triton=has_triton(t4))
    assert fused == [] and "capability 8.0" in reason
    with pytest.raises(ValueError, match=r"capability 8\.0"):
        choose_layers([SimpleNamespace()], "fused", on_gpu=True, triton=has_triton(t4))
    assert fused_ops(t4).__name__.endswith("reference") and cached_ops(t4).__name__.endswith("plain")
    assert not reads_shared_heads(t4) and reads_shared_heads(torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "dtype"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_the_dtype_of_a_gpu(t4, monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    chosen, reason = choose_dtype(t4)
    assert chosen == dtype and "Tesla T4" in reason
