"""Triton kernels against their plain PyTorch reference, on a GPU: pytest tests/model/test_kernels.py -o addopts=""."""

import pytest
import torch

from revinst.model.fused import reference
from revinst.model.fused.description import RmsNorm
from revinst.model.fused.mask import Mask

pytestmark = pytest.mark.gpu
T, H, F = 37, 96, 200
MASKS = [None, Mask(0.3, (12345, 2**31 - 7))]
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 2e-4}  # both round once from fp32


@pytest.fixture(params=BOUNDS, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=MASKS, ids=["whole", "dropout"])
def mask(request):
    return request.param


@pytest.fixture
def draw(dtype):
    torch.manual_seed(0)
    return lambda *shape: torch.randn(*shape, dtype=dtype, device="cuda")


def both(function, dtype):
    """Runs with each implementation, checks all tensors it returns, canaries beside views included."""
    from revinst.model.fused import kernels

    for got, expected in zip(function(kernels), function(reference), strict=True):
        error = (got.double() - expected.double()).norm() / expected.double().norm()
        assert error < BOUNDS[dtype]


def buffer(columns: int, dtype) -> torch.Tensor:
    return torch.full((T, columns + 8), 7.0, dtype=dtype, device="cuda")


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norm(draw, dtype, mask, offset):
    x, delta, weight, grad, lora, residual = (draw(*s) for s in [(T, H), (T, H), (H,), (T, H), (T, H), (T, H + 4)])

    norm = RmsNorm(weight, 1e-5, offset)

    def forward(ops):
        one, two, three = (buffer(H, dtype) for _ in range(3))
        dropped = ops.norm(x, norm, one[:, :H], mask)
        total, dropped_sum = ops.add_norm(x, delta, norm, two[:, :H], mask)
        grads = (grad, lora if mask else None, residual[:, :H])
        again = ops.norm_backward(x, norm, grads, mask, three[:, :H])
        assert torch.equal(again, dropped), (
            "an offloaded layer's gradients have the bits of one that keeps its activations"
        )
        return one, two, three, dropped, total, dropped_sum, again

    both(forward, dtype)


def test_rotate(draw, dtype):
    x, cos, sin = draw(T, 6, 32), draw(T, 16).repeat(1, 2), draw(T, 16).repeat(1, 2)

    def rotate(ops):
        out, own = buffer(6 * 32, dtype), x.clone()
        ops.rotate(x, cos, sin, out[:, : 6 * 32].unflatten(1, (6, 32)), backward=True)
        ops.rotate(own, cos, sin, own)
        return out, own

    both(rotate, dtype)


def test_a_norm_of_each_head(draw, dtype):
    """Of columns of a wider matrix, into columns of another, and its gradient alone."""
    wide, weight, grad = draw(T, 6 * 32 + 8), draw(32), draw(T, 6, 32)
    norm, x = RmsNorm(weight, 1e-5, 1.0), wide[:, : 6 * 32].unflatten(1, (6, 32))

    def forward(ops):
        out, back = buffer(6 * 32, dtype), buffer(6 * 32, dtype)
        heads, gradients = (each[:, : 6 * 32].unflatten(1, (6, 32)) for each in (out, back))
        ops.norm(x, norm, heads, None)
        ops.norm_backward(x, norm, (grad, None, None), None, gradients, again=False)
        return out, back

    both(forward, dtype)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_glu(draw, dtype, mask, activation):
    gate, up, grad, lora = (draw(T, F) for _ in range(4))

    def glu(ops):
        out, grads = buffer(F, dtype), buffer(2 * F, dtype)
        dropped = ops.glu(gate, up, activation, out[:, :F], mask)
        parts = grads[:, : 2 * F].chunk(2, dim=1)
        again = ops.glu_backward(gate, up, activation, (grad.clone(), lora if mask else None), mask, parts)
        assert torch.equal(again, dropped)
        return out, grads, dropped, again

    both(glu, dtype)


def test_dropout(draw, dtype, mask):
    x, lora = draw(T, H), draw(T, H)

    def dropout(ops):
        copied = buffer(H, dtype)
        dropped = ops.place(x, copied[:, :H], mask)
        return copied, dropped, ops.drop(x, mask), ops.add_masked(x, lora if mask else None, mask)

    both(dropout, dtype)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_unpacked_weights_have_the_bits_of_bitsandbytes(dtype):
    from bitsandbytes.nn import Linear4bit

    from revinst.model.fused import kernels, weight_kernels

    torch.manual_seed(0)
    linear = Linear4bit(192, 320, bias=False, compute_dtype=dtype, quant_type="nf4")
    linear.weight.data = linear.weight.data.to(dtype)
    linear = linear.cuda()
    assert weight_kernels.double_nf4(linear) is not None
    ours, theirs = torch.zeros(320, 200, dtype=dtype, device="cuda"), torch.zeros(320, 200, dtype=dtype, device="cuda")
    kernels.fill_base(linear, ours[:, :192])
    reference.fill_base(linear, theirs[:, :192])
    assert torch.equal(ours, theirs) and ours[:, :192].abs().sum() > 1 and ours[:, 192:].eq(0).all()
