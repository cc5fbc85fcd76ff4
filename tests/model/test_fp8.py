"""Products of the frozen base in 8 bits: the CPU's twin against float64, and what they must leave exact."""

import pytest
import torch

from revinst.errors import UserError
from revinst.model.attention import KERNELS, rows_by_sdpa
from revinst.model.fused import twins
from revinst.model.fused.adapter import Adapter
from revinst.model.fused.fp8 import Fp8Group
from revinst.model.fused.linear import Group
from revinst.model.fused.support import check_base_gemm, choose_layers, fuse_layers
from tests.model.test_fused import CPU, build, error, layers_of, run

# e4m3 has 3 bits of mantissa: a number is off by at most 2^-4 of itself, by 2.6 % in the root mean square over a
# mantissa spread evenly on a log scale; a product of two such matrices with independent errors by sqrt(2) times that.
HALF_STEP, PRODUCT = 2**-4, 0.04
T, K = 33, 48


def linear(outputs: int, seed: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    layer = torch.nn.Linear(K, outputs, bias=False).double().requires_grad_(False)
    layer.weight.data *= torch.logspace(-3, 3, outputs, dtype=torch.float64)[:, None]  # rows of any size
    return layer


def no_adapter(group: Group) -> Adapter:
    return Adapter(torch.empty(0, K).double(), [torch.empty(p.outputs, 0).double() for p in group.projections])


def test_a_row_is_rounded_to_three_bits_of_its_own_scale():
    torch.manual_seed(0)
    x = torch.randn(T, 500).double() * torch.logspace(-25, 25, T).double()[:, None]
    x[3] = 0
    values, scale = twins.quantize_rows(x)
    back = values.double() * scale.double()
    assert values.dtype == torch.float8_e4m3fn and scale.shape == (T, 1) and back[3].eq(0).all()
    assert values.double().abs().amax(1)[torch.arange(T) != 3].eq(448).all()
    normal = values.double().abs() >= 2**-6  # below, e4m3 has fewer bits
    assert normal.double().mean() > 0.9
    assert ((back - x).abs() <= HALF_STEP * 1.0001 * x.abs())[normal].all()
    assert 0.01 < error(back, x) < 0.03


def test_what_e4m3_holds_comes_out_exact():
    """Whole numbers of -14 to 14 with a 14 in each row and column: products equal float64's, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    whole = lambda *shape: torch.randint(-7, 8, shape, generator=generator).double() * 2  # noqa: E731
    layers = [torch.nn.Linear(K, n, bias=False).double() for n in (32, 48)]
    x, grad = whole(T, K), whole(T, 80)
    for matrix in (x, grad, *(layer.weight.data for layer in layers)):
        matrix.copy_(whole(*matrix.shape))
        matrix[0], matrix[:, 0] = 14, 14
    group = Fp8Group(layers, twins)
    room, left = group.room(x)
    left.copy_(x)
    outputs, _ = group.forward(room, room, no_adapter(group))
    x_grad, share = group.backward(grad, no_adapter(group), dropout=False)
    weight = torch.cat([layer.weight for layer in layers])
    assert share is None
    assert error(torch.cat(outputs, 1), x @ weight.T) < 1e-7  # scales are fp32
    assert error(x_grad, grad @ weight) < 1e-7


def test_products_are_within_their_bound_of_float64():
    layers = [linear(32, 1), linear(64, 2)]
    group, exact = Fp8Group(layers, twins), Group(layers, twins)
    x, grad = torch.randn(T, K).double(), torch.randn(T, 96).double() * torch.logspace(-8, 0, T).double()[:, None]
    outputs, _ = group.forward(x, x, no_adapter(group))
    expected, _ = exact.forward(x, x, no_adapter(exact))
    for got, right in zip(outputs, expected, strict=True):
        assert 0.01 < error(got, right) < PRODUCT
        assert max(error(got[:, n], right[:, n]) for n in range(right.shape[1])) < 2 * PRODUCT  # small rows too
    got, right = (each.backward(grad, no_adapter(each), False)[0] for each in (group, exact))
    assert 0.01 < error(got, right) < PRODUCT
    assert max(error(got[t], right[t]) for t in range(T)) < 2 * PRODUCT  # tokens of small gradients too


def fuse_fp8(model):
    layers = layers_of(model)
    numbers, _ = choose_layers(layers, "fused", CPU)
    assert "3 of 3" in fuse_layers(layers, numbers, 1, rows_by_sdpa(KERNELS["sdpa"]), "fp8")
    return model


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_a_model_in_fp8_is_near_float64(targets):
    hidden, gradients = run(build(targets))
    fp8_hidden, fp8_gradients = run(fuse_fp8(build(targets)))
    assert gradients.keys() == fp8_gradients.keys()
    assert 1e-3 < error(fp8_hidden, hidden) < 2 * PRODUCT
    errors = [error(fp8_gradients[name], gradients[name]) for name in gradients]
    assert max(errors) < 6 * PRODUCT and sum(errors) / len(errors) < 3 * PRODUCT


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_adapters_are_not_rounded(dropout):
    """On a base of zeros, whose products are exact, fp8 gives what the ordinary fused layer gives."""

    def build_hollow():
        model = build(dropout=dropout)
        for layer in layers_of(model):
            for name, module in layer.named_modules():
                if name.endswith("base_layer"):
                    module.weight.data.zero_()
        return model

    ends = []
    for base_gemm in ("bf16", "fp8"):
        model = build_hollow()
        layers = layers_of(model)
        fuse_layers(layers, [0, 1, 2], 1, rows_by_sdpa(KERNELS["sdpa"]), base_gemm)
        torch.manual_seed(2)
        ends.append(run(model))
    (hidden, gradients), (fp8_hidden, fp8_gradients) = ends
    assert error(fp8_hidden, hidden) < 1e-13
    assert max(error(fp8_gradients[name], gradients[name]) for name in gradients) < 1e-13


def test_packed_weights_are_unpacked_into_either_layout():
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    packed = bnb.nn.Linear4bit(128, 96, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    weight = twins.unpack_base(packed)
    for transpose in (False, True):
        whole = weight.T if transpose else weight
        scale, out = twins.scale_of(whole.abs().amax(1)), torch.empty(whole.shape, dtype=twins.E4M3)
        twins.fill_base_fp8(packed, scale, out, transpose)
        assert weight.shape == (96, 128) and error(out.float() * scale, whole) < 0.03


def test_what_cannot_run_in_fp8_is_refused_in_one_line():
    for arguments, words in (
        (("fp8", "auto", CPU, "bf16-mixed"), "8.9"),
        (("fp8", "plain", torch.device("cuda"), "bf16-mixed"), "fp8"),
    ):
        if arguments[2].type == "cuda" and not torch.cuda.is_available():
            continue
        with pytest.raises(UserError, match=words):
            check_base_gemm(*arguments)
    check_base_gemm("bf16", "plain", CPU, "32-true")
    layers = layers_of(build())
    with pytest.raises(UserError, match="no layer is fused"):
        fuse_layers(layers, [], 0, KERNELS["sdpa"], "fp8")
    layers[1].mlp.up_proj.out_features = 161
    with pytest.raises(UserError, match="161 features"):
        fuse_layers(layers, [0, 1], 0, KERNELS["sdpa"], "fp8")


def test_fit_on_a_cpu_is_refused_before_anything_is_loaded(tiny_llama, tmp_path, monkeypatch):
    from revinst.training import module as training
    from tests.tiny import build_data, build_module, build_trainer

    with pytest.raises(UserError, match="fp9"):
        build_module(tiny_llama, base_gemm="fp9")
    monkeypatch.setattr(training, "load_base", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(UserError, match=r"CPU has no 8-bit products.*base_gemm: bf16"):
        build_trainer(tmp_path).fit(build_module(tiny_llama, base_gemm="fp8"), datamodule=build_data(tiny_llama))
