"""Property 9: fused layers give what plain ones give, forward and gradients; the reference stands in for kernels."""

import copy
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import rescale_adapter_scale
from transformers import AutoModelForCausalLM, DynamicCache, MistralConfig

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.attention_interface import register_attention
from revinst.model.fused.layer import FusedLayer
from revinst.model.fused.mask import Mask, draw_masks, scales
from revinst.model.fused.support import choose_layers, fuse_layers
from tests.tiny import tiny_config

CPU = torch.device("cpu")
SEQ_LENS = [30, 50, 7]


def build(targets="all-linear", dropout: float = 0.0, window: int | None = None, **lora):
    """A float64 Llama, or Mistral with a window, with grouped heads and an adapter whose every matrix counts."""
    torch.manual_seed(0)
    config = tiny_config(vocab_size=128, intermediate_size=160, num_hidden_layers=3)
    if window is not None:
        values = config.to_dict() | {"model_type": "mistral", "architectures": None, "sliding_window": window}
        config = MistralConfig.from_dict(values)
    config._attn_implementation = register_attention("sdpa")
    base = AutoModelForCausalLM.from_config(config).double().requires_grad_(False)
    options = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM", **lora)
    model = get_peft_model(base, options, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model.train()


def layers_of(model):
    return model.get_base_model().get_decoder().layers


def fuse(model, offloaded: int = 0):
    layers = layers_of(model)
    numbers, _ = choose_layers(layers, "fused", on_gpu=False, triton=False)
    fuse_layers(layers, numbers, offloaded, rows_by_sdpa(BACKENDS["sdpa"].packed))
    assert all(isinstance(layer.forward, FusedLayer) for layer in layers)
    return model


def forward(model, seq_lens=SEQ_LENS, generator=None) -> torch.Tensor:
    """Hidden states of packed documents."""
    generator = generator or torch.Generator().manual_seed(1)
    ids = torch.randint(0, 128, (1, sum(seq_lens)), generator=generator)
    position_ids = torch.cat([torch.arange(n) for n in seq_lens])[None]
    cu_seqlens = torch.tensor([0, *torch.tensor(seq_lens).cumsum(0)], dtype=torch.int32)
    decoder = model.get_base_model().get_decoder()
    return decoder(
        input_ids=ids, position_ids=position_ids, cu_seqlens=cu_seqlens, seq_lens=seq_lens, use_cache=False
    ).last_hidden_state


def run(model, seq_lens=SEQ_LENS) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(hidden states, gradient of a random linear function of them by name)."""
    generator = torch.Generator().manual_seed(1)
    hidden = forward(model, seq_lens, generator)
    model.zero_grad()
    (hidden * torch.randn(hidden.shape, generator=generator, dtype=hidden.dtype)).sum().backward()
    return hidden.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def error(got, expected) -> float:
    return ((got - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("offloaded", [0, 2, 3])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["o_proj", "up_proj"], ["down_proj"]])
def test_fused_equals_plain(targets, offloaded):
    model = build(targets)
    for seq_lens in (SEQ_LENS, [40, 40]):
        for layer in layers_of(model):
            layer.__dict__.pop("forward", None)
        hidden, gradients = run(model, seq_lens)
        fused_hidden, fused_gradients = run(fuse(model, offloaded), seq_lens)
        assert gradients and all(gradient.norm() > 0 for gradient in gradients.values())
        # transformers takes norms in fp32 even in a float64 model, hence not 1e-14
        assert error(fused_hidden, hidden) < 2e-6
        assert max(error(fused_gradients[name], gradients[name]) for name in gradients) < 2e-6


@pytest.mark.parametrize("window", [3, 20])
def test_a_window_is_that_of_the_plain_layer(window):
    """In documents of 7 to 50 tokens, and in full rows, which are otherwise SDPA's."""
    for seq_lens in (SEQ_LENS, [40, 40]):
        results = {}
        for each, fused in ((window, False), (window, True), (4096, False)):
            model = build(window=each)
            results[each, fused] = run(fuse(model, 2) if fused else model, seq_lens)
        (hidden, gradients), (fused_hidden, fused_gradients) = results[window, False], results[window, True]
        assert error(fused_hidden, hidden) < 2e-6 and error(results[4096, False][0], hidden) > 1e-2
        assert max(error(fused_gradients[name], gradients[name]) for name in gradients) < 2e-6


def test_a_lean_layer_keeps_only_its_inputs():
    model = fuse(build(dropout=0.2), offloaded=3)
    kept = fuse(copy.deepcopy(build(dropout=0.2)))
    results = []
    for each in (model, kept):
        torch.manual_seed(5)
        results.append(run(each))
    assert torch.equal(results[0][0], results[1][0])
    # to the bit: a resumed run may have memory for other layers' activations
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])
    host = layers_of(model)[0].forward.host
    assert not host.offloaded and layers_of(kept)[0].forward.host is None


def test_gradients_use_the_masks_of_the_forward():
    """Finite differences with the same seed, for dropout 0.5: another mask in backward would be far off."""
    model = fuse(build(dropout=0.5))
    torch.manual_seed(7)
    _, gradients = run(model)

    def value() -> float:
        torch.manual_seed(7)
        hidden, _ = run(model)
        drawn = torch.Generator().manual_seed(1)  # as `run` draws: ids, then the linear function
        torch.randint(0, 128, (1, sum(SEQ_LENS)), generator=drawn)
        return (hidden * torch.randn(hidden.shape, generator=drawn, dtype=hidden.dtype)).sum().item()

    for name in ("lora_A.default.weight", "lora_B.default.weight"):
        names = [key for key in gradients if key.endswith(name) and ".layers.0." in key]
        assert len(names) == 7
        for key in names:
            parameter, step = model.get_parameter(key), 1e-4
            direction = gradients[key] / gradients[key].norm()
            values = []
            for sign in (1, -1):
                parameter.data += sign * step * direction
                values.append(value())
                parameter.data -= sign * step * direction
            slope = (values[0] - values[1]) / (2 * step)
            assert slope == pytest.approx(gradients[key].norm().item(), rel=2e-2)


def test_dropout_is_as_strong_as_pefts():
    """The same mean and spread over 40 draws, though q, k, v and gate, up share a mask here."""
    model = build(dropout=0.1)
    expected, _ = run(model.eval())
    means, spreads = [], []
    for fused in (False, True):
        model = fuse(model) if fused else model
        assert error(run(model.eval())[0], expected) < 2e-6  # none in eval mode
        model.train()
        torch.manual_seed(0)
        draws = torch.stack([run(model)[0] for _ in range(40)])
        means.append(draws.mean(0))
        spreads.append(draws.std(0).norm().item())
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1) and spreads[0] > 1
    # each mean is off by a spread / sqrt(40)
    assert (means[1] - means[0]).norm().item() < 1.5 * 2**0.5 * spreads[0] / 40**0.5


def test_masks_are_fair_and_follow_torchs_seed():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    masks = draw_masks(0.25)
    torch.set_rng_state(state)
    assert draw_masks(0.25) == masks and draw_masks(0.25) != masks and len(masks) == 4
    kept = [scales(mask, 400, 500, CPU) > 0 for mask in masks]
    for number, keep in enumerate(kept):
        assert keep.float().mean().item() == pytest.approx(0.75, abs=0.004)
        assert keep.float().mean(0).std().item() == pytest.approx((0.25 * 0.75 / 400) ** 0.5, rel=0.15)
        for other in kept[:number]:
            both = (keep & other).float().mean().item()
            assert both == pytest.approx(0.75**2, abs=0.005)  # independent
    assert scales(masks[0], 400, 500, CPU).mean().item() == pytest.approx(1.0, abs=0.005)
    assert scales(Mask(0.0, (1, 2)), 3, 4, CPU).eq(1).all()


def test_generation_with_a_cache_runs_the_plain_layer():
    model = build().eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected = model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True).logits
        got = fuse(model)(input_ids=ids, past_key_values=DynamicCache(), use_cache=True).logits
    assert torch.equal(got, expected)


def test_a_second_backward_is_refused():
    model = fuse(build())
    position_ids, cu_seqlens = torch.arange(8)[None], torch.tensor([0, 8], dtype=torch.int32)
    hidden = (
        model.get_base_model()
        .get_decoder()(
            input_ids=position_ids, position_ids=position_ids, cu_seqlens=cu_seqlens, seq_lens=[8], use_cache=False
        )
        .last_hidden_state
    )
    hidden.sum().backward(retain_graph=True)
    with pytest.raises(AssertionError, match="one backward"):
        hidden.sum().backward()


def test_what_cannot_be_fused_stays_plain_and_says_why():
    layers = layers_of(build(use_dora=True))
    assert choose_layers(layers, "auto", on_gpu=False, triton=False)[0] == []
    with pytest.raises(UserError, match="DoRA"):
        choose_layers(layers, "fused", on_gpu=False, triton=False)
    layers = layers_of(build())
    layers[1].mlp.up_proj.base_layer.bias = torch.nn.Parameter(torch.zeros(160))
    numbers, reason = choose_layers(layers, "fused", on_gpu=False, triton=False)
    assert numbers == [0, 2] and "2 of 3 layers fused" in reason and "are trained" in reason
    assert choose_layers(layers, "plain", on_gpu=False, triton=False)[0] == []
    with pytest.raises(UserError, match="quick"):
        choose_layers(layers, "quick", on_gpu=False, triton=False)


@contextmanager
def another_adapter(model, names=("other",)):
    """Of another rank and scale, on other layers; in tests of two at once beside the first."""
    torch.manual_seed(2)
    options = LoraConfig(r=3, lora_alpha=9, target_modules=["k_proj", "o_proj", "up_proj"], task_type="CAUSAL_LM")
    model.add_adapter("other", options, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_B.other" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.double().base_model.set_adapter(list(names))
    yield


@contextmanager
def merged(model):
    model.merge_adapter()
    yield
    model.unmerge_adapter()


@contextmanager
def merged_and_off(model):
    model.merge_adapter()
    with model.disable_adapter():
        yield


@contextmanager
def trained_norms(model):
    for layer in layers_of(model):
        layer.input_layernorm.weight.requires_grad_()
    yield


@contextmanager
def hooked(model):
    """What PEFT does for `adapter_names` is such a hook."""
    handles = [layer.mlp.up_proj.register_forward_hook(lambda m, x, y: 2 * y) for layer in layers_of(model)]
    yield
    for handle in handles:
        handle.remove()


@contextmanager
def taken_off(model):
    """`unload` puts bare linear layers in the place of PEFT's."""
    model.base_model.unload()
    yield


STATES = {
    "off": lambda model: model.disable_adapter(),
    "scaled": lambda model: rescale_adapter_scale(model, 0.3),
    "another": another_adapter,
    "two at once": lambda model: another_adapter(model, ("default", "other")),
    "merged": merged,
    "merged and off": merged_and_off,
    "norms trained": trained_norms,
    "hooked": hooked,
    "taken off": taken_off,
}
UNTRAINED = ("off", "merged", "merged and off", "taken off")


@pytest.mark.parametrize("offloaded", [0, 3])
@pytest.mark.parametrize("state", STATES)
def test_an_adapters_state_is_honoured(state, offloaded):
    """Whatever PEFT's layers would do now, values and gradients; and afterwards as before."""
    found = []
    for fused in (False, True):
        model = build(["q_proj", "k_proj", "up_proj", "down_proj"])
        if fused:
            fuse(model, offloaded)
        before = forward(model).detach()
        with STATES[state](model):
            hidden, gradients = (forward(model).detach(), {}) if state in UNTRAINED else run(model)
            assert error(hidden, before) > 1e-2 or state in ("merged", "norms trained")
        after = forward(model).detach()
        found.append((before, hidden, after, gradients))
        if fused:
            assert not layers_of(model)[0].forward.host or not layers_of(model)[0].forward.host.ahead
    plain, fused = found
    assert max(map(error, fused[:3], plain[:3])) < 2e-6
    assert plain[3].keys() == fused[3].keys()
    trained = {name for name in plain[3] if plain[3][name].norm() > 0}
    assert bool(trained) == (state not in UNTRAINED)
    assert max((error(fused[3][name], plain[3][name]) for name in trained), default=0) < 2e-6
    assert all(fused[3][name].norm() == 0 for name in plain[3].keys() - trained)


@pytest.mark.parametrize("offloaded", [0, 2, 3])
@pytest.mark.parametrize("no_grad", [True, False])
def test_a_penalty_on_the_distance_to_the_base(offloaded, no_grad):
    """The base's pass comes between a forward and its backward, and leaves the first one's activations alone."""
    found = []
    for fused in (False, True):
        model = build()
        if fused:
            fuse(model, offloaded)
        ours = forward(model)
        with model.disable_adapter(), torch.set_grad_enabled(not no_grad):
            base = forward(model)
        assert not base.requires_grad
        penalty = (ours - base.detach()).square().sum()
        penalty.backward()
        found.append((penalty.item(), [p.grad for p in model.parameters() if p.requires_grad]))
    (plain, gradients), (penalty, fused_gradients) = found
    assert plain > 1 and penalty == pytest.approx(plain, rel=1e-5)
    assert len(gradients) == 42 and max(map(error, fused_gradients, gradients)) < 1e-5


@pytest.mark.parametrize("offloaded", [0, 3])
def test_a_backward_has_the_scale_of_its_forward(offloaded):
    found = []
    for fused in (False, True):
        model = build()
        if fused:
            fuse(model, offloaded)
        with rescale_adapter_scale(model, 0.3):
            hidden = forward(model)
        hidden.square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert max(map(error, *found)) < 2e-6


def test_an_offloaded_layer_keeps_the_inputs_of_one_pass():
    """Gradients from another forward's inputs would be wrong without a word."""
    model = fuse(build(), offloaded=2)
    first, second = forward(model), forward(model, [9, 8])
    with pytest.raises(RuntimeError, match="another forward came between"):
        first.sum().backward()
    second.sum().backward()
    assert torch.isfinite(second).all() and not layers_of(model)[0].forward.host.offloaded
    model = fuse(build(), offloaded=0)
    first, second = forward(model), forward(model, [9, 8])
    (first.sum() + second.sum()).backward()


def test_training_steps_agree(tiny_llama, tmp_path):
    """Through the loop on a 4-bit base, three steps, kept and offloaded: the same losses and adapters as plain."""
    from tests.tiny import build_data, build_module, build_trainer

    ends = []
    for kernels, memory in (("plain", "auto"), ("fused", "auto"), ("fused", 0)):
        torch.manual_seed(3)
        module = build_module(tiny_llama, quantization="nf4", kernels=kernels, activation_memory_gib=memory)
        trainer = build_trainer(tmp_path, max_steps=3)
        trainer.fit(module, datamodule=build_data(tiny_llama, rows_per_step=2))
        adapter = {name: p.detach().clone() for name, p in module.network.model.named_parameters() if p.requires_grad}
        ends.append((float(trainer.callback_metrics["train/loss"]), adapter, module.reasons))
    (loss, adapter, _), *fused = ends
    for fused_loss, fused_adapter, reasons in fused:
        assert fused_loss == pytest.approx(loss, rel=1e-5)
        assert max(error(fused_adapter[name], adapter[name]) for name in adapter) < 1e-3
        assert reasons["kernels"] == "2 of 2 layers fused"
    assert [reasons["recompute"][:6] for *_, reasons in ends] == ["0 of 2", "0 of 2", "2 of 2"]
