"""The adapter's dropout on a CPU: the share, the scale, the gradient and the draws, beside torch's own."""

import pytest
import torch

from revinst.config.settings import LoraSettings
from revinst.model.dropout import Dropout
from revinst.model.lora import attach_lora


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 333, 577), (250_001,)])
def test_share_and_scale(p, shape):
    """Kept with 1 - p (within 4.5 standard deviations), whatever the neighbours do; the mean stays."""
    torch.manual_seed(0)
    x = torch.ones(shape)
    y = Dropout(p)(x)
    kept = y != 0
    n, q = y.numel(), 1 - p
    assert abs(float(kept.float().mean()) - q) < 4.5 * (p * q / n) ** 0.5 + 2**-16
    assert torch.allclose(y[kept], torch.tensor(1 / q), rtol=2**-15 / q)
    flat = kept.flatten()
    for step in (1, 2, 3, 4, 8):  # a word has four of them
        both = float((flat[step:] & flat[:-step]).float().mean())
        assert abs(both - q * q) < 4.5 * (q * q * (1 - q * q) / n) ** 0.5 + 2**-15, step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_the_mask(dtype):
    torch.manual_seed(1)
    x = torch.randn(64, 33, dtype=dtype, requires_grad=True)
    y = Dropout(0.1)(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    mask = (y != 0) | (x == 0)
    assert y.dtype == dtype and x.grad is not None
    expected = torch.where(mask, grad.float() / 0.9, 0)
    assert torch.allclose(x.grad.float(), expected, rtol=1e-5 if dtype == torch.float32 else 2**-8)


def test_draws_follow_the_seed():
    x = torch.randn(100, 50)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append((Dropout(0.3)(x), Dropout(0.3)(x)))
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1]) and not torch.equal(drawn[0][0], drawn[2][0])


def test_ends_of_the_range():
    """Nothing changes outside of training, nor for p 0; p 1 leaves nothing; almost 0 and almost 1 stay finite."""
    x = torch.randn(1000)
    assert Dropout(0.5).eval()(x) is x and torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert torch.isfinite(Dropout(1e-9)(x)).all() and torch.isfinite(Dropout(1 - 1e-9)(x)).all()
    assert Dropout(0.5)(x[:0]).shape == (0,)


def test_adapters_have_it(tiny_llama):
    from transformers import AutoModelForCausalLM

    model = attach_lora(AutoModelForCausalLM.from_pretrained(tiny_llama), LoraSettings(r=2, dropout=0.1), "base")
    found = [part for module in model.modules() for part in getattr(module, "lora_dropout", {}).values()]
    assert found and all(type(part) is Dropout and part.p == 0.1 for part in found)
