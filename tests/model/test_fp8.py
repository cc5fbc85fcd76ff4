"""Products of the frozen base in 8 bits: the reference against float64, what they leave exact, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.fused import fp8, reference
from revinst.model.fused.adapter import Adapter
from revinst.model.fused.fp8 import (
    BaseGemm,
    Fp8BackwardGroup,
    Fp8Group,
    Fp8Weights,
    check_base_gemm,
    choose_base_gemm,
)
from revinst.model.fused.linear import Group
from revinst.model.fused.projection import Projection
from revinst.model.fused.support import choose_layers, fuse_layers
from revinst.model.hardware import choose_hardware, has_fp8
from tests.model.test_fused import CPU, build, error, forward, layers_of, run

# e4m3 has 3 bits of mantissa: a number is off by at most 2^-4 of itself, by 2.6 % in the root mean square over a
# mantissa spread evenly on a log scale; a product of two such matrices with independent errors by sqrt(2) times that.
HALF_STEP, PRODUCT = 2**-4, 0.04
T, K = 33, 48


def linear(outputs: int, seed: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(K, outputs, bias=False).double().requires_grad_(False)


def group_of(layers, kind=Fp8Group, keeps: bool = False) -> Group:
    projections = [Projection(layer) for layer in layers]
    return (
        Group(projections, reference) if kind is Group else kind(projections, reference, Fp8Weights(reference, keeps))
    )


def no_adapter(group: Group) -> Adapter:
    return Adapter(torch.empty(0, K).double(), [torch.empty(p.outputs, 0).double() for p in group.projections])


def products(group: Group, x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(outputs side by side, gradient of x)."""
    buffer, left = group.buffer(x)
    left.copy_(x)
    outputs, _ = group.forward(buffer, left, no_adapter(group))
    x_grad, share = group.backward(grad.clone(), no_adapter(group), dropout=False)
    assert share is None
    return torch.cat(outputs, 1), x_grad


def fuse(model, kind: str, offloaded: int = 1, keeps: bool = False):
    layers = layers_of(model)
    numbers, _ = choose_layers(layers, "fused", on_gpu=False, triton=False)
    fuse_layers(layers, numbers, offloaded, rows_by_sdpa(BACKENDS["sdpa"].packed), BaseGemm(kind, keeps))
    return model


# ---- rounding ------------------------------------------------------------------------------------------------------


def test_a_row_is_rounded_to_three_bits_of_its_own_scale():
    torch.manual_seed(0)
    x = torch.randn(T, 500).double() * torch.logspace(-25, 25, T).double()[:, None]
    x[3] = 0
    values, scale = reference.quantize_rows(x)
    back = values.double() * scale.double()
    assert values.dtype == torch.float8_e4m3fn and scale.shape == (T, 1) and back[3].eq(0).all()
    assert values.double().abs().amax(1)[torch.arange(T) != 3].eq(448).all()
    normal = values.double().abs() >= 2**-6  # below, e4m3 has fewer bits
    assert normal.double().mean() > 0.9
    assert ((back - x).abs() <= HALF_STEP * 1.0001 * x.abs())[normal].all()
    assert 0.01 < error(back, x) < 0.03


def test_a_row_does_not_depend_on_its_neighbours():
    layers = [linear(32, 1), linear(64, 2)]
    group, x, grad = group_of(layers), torch.randn(T, K).double(), torch.randn(T, 96).double()
    before = products(group, x, grad)
    x[5], grad[5], x[7], grad[7] = 1e6 * x[5], 1e6 * grad[5], torch.nan, torch.inf
    after, others = products(group, x, grad), [t for t in range(T) if t not in (5, 7)]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[others], other[others]) and not torch.equal(one[5], other[5])


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_stays_so(bad):
    """The conversion to e4m3 by itself makes 448 of infinity."""
    group, x, grad = group_of([linear(32, 1)]), torch.randn(T, K).double(), torch.randn(T, 32).double()
    x[4, 9] = grad[6, 2] = bad
    y, x_grad = products(group, x, grad)
    assert not y[4].isfinite().any() and not x_grad[6].isfinite().any()
    assert y.isfinite().all(1).sum() == x_grad.isfinite().all(1).sum() == T - 1


@pytest.mark.parametrize("keeps", [False, True])
def test_what_e4m3_holds_comes_out_exact(keeps):
    """Even numbers of -14 to 14, which e4m3 holds: products equal float64's, forward and backward, twice."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(K, n, bias=False).double().requires_grad_(False) for n in (32, 48)]
    x, grad = torch.empty(T, K).double(), torch.empty(T, 80).double()
    for matrix in (x, grad, *(layer.weight.data for layer in layers)):
        matrix.copy_(2.0 * torch.randint(-7, 8, matrix.shape, generator=generator))
        matrix[:, 0] = 14
    group, weight = group_of(layers, keeps=keeps), torch.cat([layer.weight for layer in layers])
    for _ in range(2):
        y, x_grad = products(group, x, grad)
        assert error(y, x @ weight.T) < 1e-6 and error(x_grad, grad @ weight) < 1e-6  # scales are fp32
    assert len(group.weights.kept) == 2 * keeps


def test_products_are_within_their_bound_of_float64():
    layers = [linear(32, 1), linear(64, 2)]
    layers[1].weight.data *= 2e-3  # one scale is enough for both
    x, grad = torch.randn(T, K).double(), torch.randn(T, 96).double() * torch.logspace(-8, 0, T).double()[:, None]
    (y, x_grad), (expected, expected_grad) = (products(group_of(layers, kind), x, grad) for kind in (Fp8Group, Group))
    for columns in (slice(0, 32), slice(32, 96)):
        assert 0.01 < error(y[:, columns], expected[:, columns]) < PRODUCT
    assert 0.01 < error(x_grad, expected_grad) < PRODUCT
    assert max(error(x_grad[t], expected_grad[t]) for t in range(T)) < 2 * PRODUCT  # tokens of small gradients too
    half, half_grad = products(group_of(layers, Fp8BackwardGroup), x, grad)
    assert torch.equal(half, expected) and torch.equal(half_grad, x_grad)


def test_packed_weights_in_either_layout():
    torch.manual_seed(0)
    packed = Linear4bit(128, 96, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    weights, weight = Fp8Weights(reference, keeps=False), reference.unpack_base(packed)
    for transpose in (False, True):
        values = weights.read([Projection(packed)], transpose)
        assert values.dtype == reference.E4M3 and weight.shape == (96, 128)
        assert error(values.float() * weights.scales[0, 0], weight.T if transpose else weight) < 0.03


def test_other_weights_are_not_taken_for_the_kept_ones():
    layer, x = linear(32, 1), torch.randn(T, K).double()
    group = group_of([layer], keeps=True)
    before, _ = products(group, x, torch.randn(T, 32).double())
    layer.weight = torch.nn.Parameter(3 * layer.weight.data, requires_grad=False)
    after, _ = products(group, x, torch.randn(T, 32).double())
    assert error(after, 3 * before) < 1e-6


# ---- in a model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_a_model_is_near_float64(targets, keeps):
    hidden, gradients = run(build(targets))
    errors = {}
    for kind in ("fp8_backward", "fp8"):
        found, of_kind = run(fuse(build(targets), kind, keeps=keeps))
        assert gradients.keys() == of_kind.keys()
        each = [error(of_kind[name], gradients[name]) for name in gradients]
        errors[kind] = error(found, hidden), max(each), sum(each) / len(each)
    assert errors["fp8_backward"][0] < 2e-6 and 1e-3 < errors["fp8"][0] < 2 * PRODUCT
    assert 1e-3 < errors["fp8_backward"][2] < errors["fp8"][2] < 3 * PRODUCT and errors["fp8"][1] < 6 * PRODUCT


@pytest.mark.parametrize("kind", ["fp8_backward", "fp8"])
def test_kept_and_unpacked_weights_give_the_same_bits(kind):
    """And so do layers that recompute and such that do not."""
    runs = []
    for offloaded, keeps in ((3, False), (0, True)):
        model = fuse(build(dropout=0.2), kind, offloaded, keeps)
        torch.manual_seed(5)
        runs.append(run(model))
    (hidden, gradients), (kept_hidden, kept_gradients) = runs
    assert torch.equal(hidden, kept_hidden)
    assert all(torch.equal(gradients[name], kept_gradients[name]) for name in gradients)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_adapters_are_not_rounded(dropout):
    """On a base of zeros, whose products are exact, 8 bits give what 16 do."""
    ends = []
    for kind in ("bf16", "fp8"):
        model = build(dropout=dropout)
        for name, parameter in model.named_parameters():
            if "base_layer" in name:
                parameter.data.zero_()
        fuse(model, kind)
        torch.manual_seed(2)
        ends.append(run(model))
    (hidden, gradients), (fp8_hidden, fp8_gradients) = ends
    assert error(fp8_hidden, hidden) < 1e-13 and all(gradient.norm() > 0 for gradient in gradients.values())
    assert max(error(fp8_gradients[name], gradients[name]) for name in gradients) < 1e-13


def test_only_training_is_in_8_bits():
    """Validation, and a pass while the adapter is merged into the base, whose weights are then others."""
    model, exact = fuse(build(), "fp8", keeps=True), fuse(build(), "bf16")
    trained = forward(model).detach()
    assert error(trained, forward(exact)) > 1e-3
    for each in (model, exact):
        each.eval()
    assert torch.equal(forward(model), forward(exact))
    for each in (model, exact):
        each.train()
        each.merge_adapter()
    assert torch.equal(forward(model), forward(exact))
    model.unmerge_adapter()
    assert error(forward(model), trained) < 1e-6


def test_documents_are_as_if_alone():
    """Tokens have a scale each, so that packing changes nothing."""
    model = fuse(build(), "fp8", offloaded=0)
    torch.manual_seed(0)
    ids, lengths = torch.randint(0, 128, (1, 87)), [30, 50, 7]

    def hidden(ids, lengths):
        places = torch.cat([torch.arange(n) for n in lengths])[None]
        ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
        decoder = model.get_base_model().get_decoder()
        call = {"position_ids": places, "cu_seqlens": ends, "seq_lens": lengths, "use_cache": False}
        return decoder(input_ids=ids, **call).last_hidden_state[0]

    packed = hidden(ids, lengths)
    for document, of_packed in zip(ids.split(lengths, dim=1), packed.split(lengths), strict=True):
        assert error(hidden(document, [document.shape[1]]), of_packed) < 1e-6


# ---- what is chosen ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def h200():
    return replace(choose_hardware(CPU), device="cuda:0", device_name="an H200", dtype="bf16", triton=True, fp8=True)


def test_what_is_chosen(h200):
    linears = [linear(32, 1)]
    assert choose_base_gemm("bf16", linears, "", h200) == ("bf16", "products of the base in bf16: asked for")
    assert choose_base_gemm("auto", linears, "", h200)[0] == fp8.AUTO == "fp8_backward"
    for kind in ("fp8", "fp8_backward"):
        chosen, reason = choose_base_gemm(kind, linears, "", h200)
        assert chosen == kind and reason.startswith(f"{kind}: ") and "e4m3" in reason


@pytest.mark.parametrize(
    ("change", "outputs", "words"),
    [
        ({"fp8": False, "device_name": "NVIDIA A100"}, 32, r"8\.9 .* this is NVIDIA A100"),
        ({"dtype": "fp16"}, 32, "come out in bf16, not in fp16"),
        ({}, None, r"none is \(plain: asked for\)"),
        ({}, 33, "33 features, no multiple of 16"),
    ],
)
def test_what_cannot_be_is_refused_and_auto_says_why(h200, change, outputs, words):
    hardware, linears = replace(h200, **change), [linear(outputs, 1)] if outputs else []
    for kind in ("fp8", "fp8_backward"):
        with pytest.raises(UserError, match=rf"model.base_gemm {kind}: .*{words}; use model.base_gemm: auto"):
            choose_base_gemm(kind, linears, "plain: asked for", hardware)
    kind, reason = choose_base_gemm("auto", linears, "plain: asked for", hardware)
    assert kind == "bf16" and reason.startswith(f"products of the base in {hardware.dtype}: products in 8 bits") == (
        outputs != 33
    )


@pytest.mark.parametrize(("capability", "can"), [((8, 0), False), ((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_which_gpus_have_it(monkeypatch, capability, can):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr("revinst.model.hardware.find_spec", lambda _: SimpleNamespace())
    assert has_fp8(torch.device("cuda")) == can and not has_fp8(CPU)


def test_a_cpu_is_refused_before_anything_is_loaded(tiny_llama, tmp_path, monkeypatch):
    from revinst.model import build as building
    from tests.tiny import build_data, build_module, build_trainer

    with pytest.raises(UserError, match="'fp9': choose from auto, bf16, fp8_backward, fp8"):
        build_module(tiny_llama, base_gemm="fp9")
    monkeypatch.setattr(building, "load_base", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(UserError, match=r"model.base_gemm fp8: .* this is \d+ CPU threads"):
        build_trainer(tmp_path).fit(build_module(tiny_llama, base_gemm="fp8"), datamodule=build_data(tiny_llama))
    check_base_gemm("auto", choose_hardware(CPU))


@pytest.mark.parametrize(
    ("saved", "why"),
    [("bf16", "as this run began"), (None, "as this run began"), ("fp8_backward", "8 bits need Triton")],
    ids=str,
)
def test_a_run_goes_on_as_it_began(tiny_llama, tmp_path, capsys, saved, why):
    """None: a checkpoint of before there was a choice."""
    from tests.tiny import build_data, build_module, build_trainer

    trainer, path = build_trainer(tmp_path), tmp_path / "1.ckpt"
    trainer.fit(build_module(tiny_llama), datamodule=build_data(tiny_llama))
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["revinst"].pop("base_gemm") == "bf16"
    checkpoint["run"] = {}  # of our callback
    if saved:
        checkpoint["revinst"]["base_gemm"] = saved
    torch.save(checkpoint, path)
    again = build_module(tiny_llama)
    trainer = build_trainer(tmp_path, max_steps=2)
    trainer.ckpt_path = path  # as `train` does
    trainer.fit(again, datamodule=build_data(tiny_llama), weights_only=True)
    assert why in again.reasons["base_gemm"] and again.settings.base_gemm == "auto"
    said = "base_gemm: goes on with bf16; until step 1 it was fp8_backward" in capsys.readouterr().out
    assert said == (saved == "fp8_backward") and again.base_gemm == "bf16"  # what a CPU has
