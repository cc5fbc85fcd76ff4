"""Kernels that compute some sizes of heads alone, as a package does that was built for these."""

from dataclasses import replace

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, Needs, choose_attention, choose_kernel
from revinst.model.attention_trial import BOUND, attend, textbook, why_not_size
from revinst.model.tiny_copy import head_sizes

CPU = torch.device("cpu")
BF16 = torch.bfloat16
SDPA = BACKENDS["sdpa"].packed


def unwritten(q, k, v, *others, **extras):
    """As if memory were returned that no kernel wrote to; finite."""
    return torch.zeros_like(q).requires_grad_(q.requires_grad) + 0 * (q.sum() + k.sum() + v.sum())


def without_gradients(q, k, v, *others, **extras):
    """Right but for the gradient of k, which is as it was before."""
    return SDPA(q, k.detach(), v, *others, **extras) + 0 * k.sum()


def without_window(q, k, v, *others, window=None, **extras):
    return SDPA(q, k, v, *others, **extras)


def seeing_all(q, k, v, scale, ends, lengths, **extras):
    """Documents see each other."""
    return SDPA(q, k, v, scale, ends[[0, -1]], [sum(lengths)], **extras)


def small_alone(q, *others, **extras):
    return (SDPA if q.shape[-1] <= 128 else unwritten)(q, *others, **extras)


def wrong_in_rows(q, k, v, scale, ends, lengths, **extras):
    """Documents of one length, as rows of a batch, come out wrong."""
    return (unwritten if len(set(lengths)) == 1 else SDPA)(q, k, v, scale, ends, lengths, **extras)


def refusing(q, k, v, *others, **extras):
    raise RuntimeError("FlashAttention forward only supports head dimension at most 256")


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("size", [16, 80, 256])
def test_a_kernel_that_computes_it(size, dtype):
    assert not why_not_size(SDPA, CPU, dtype, size) and not why_not_size(SDPA, CPU, dtype, size, frozenset({"window"}))
    lengths = [3, 50]
    found, expected = (
        attend(SDPA, CPU, dtype, size, lengths, {}),
        attend(textbook, CPU, torch.float32, size, lengths, {}),
    )
    assert all((a - b).norm() < BOUND[dtype] / 2 * b.norm() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (unwritten, "computes heads of 64 wrongly here"),
        (without_gradients, "computes gradients of heads of 64 wrongly here"),
        (seeing_all, "computes heads of 64 wrongly"),
        (wrong_in_rows, "computes heads of 64 wrongly"),
        (refusing, "fails on heads of 64 (FlashAttention forward only supports"),
    ],
)
def test_one_that_does_not(kernel, words, dtype):
    assert why_not_size(kernel, CPU, dtype, 64).startswith(words)


def test_a_window_is_tried_where_it_will_be_asked_for():
    assert not why_not_size(without_window, CPU, BF16, 64)
    assert "wrongly" in why_not_size(without_window, CPU, BF16, 64, frozenset({"window"}))


def test_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    why_not_size(SDPA, CPU, torch.float32, 24)
    assert torch.get_rng_state().equal(before)


def test_it_is_the_same_where_nothing_is_differentiated():
    with torch.inference_mode():
        assert not why_not_size(SDPA, CPU, torch.float32, 40)
        assert "gradients" in why_not_size(without_gradients, CPU, torch.float32, 40)


@pytest.fixture
def small_flash(monkeypatch):
    """A flash-attn for heads of at most 128 features, which says nothing of others."""
    monkeypatch.setitem(BACKENDS, "flash", replace(BACKENDS["flash"], packed=small_alone, why_not=lambda *_: ""))


def test_auto_takes_the_next_and_what_is_asked_for_is_refused(small_flash):
    assert choose_attention(CPU, "auto", BF16, needs=Needs(frozenset(), frozenset({128})))[0] == "flash"
    needs = Needs(frozenset({"window"}), frozenset({128, 256}))
    backend, reason = choose_attention(CPU, "auto", BF16, needs=needs)
    assert backend == "sdpa" and "flash computes heads of 256 wrongly here" in reason
    with pytest.raises(UserError, match=r"model\.attention flash: .* heads of 256 wrongly .* model\.attention: auto"):
        choose_attention(CPU, "flash", BF16, needs=needs)


def test_full_rows_go_through_sdpa_where_that_computes_them(monkeypatch):
    rows = choose_kernel("eager", "auto", CPU, BF16, frozenset({64}))
    assert rows is not BACKENDS["eager"].packed and choose_kernel("eager", "eager", CPU, BF16, frozenset({64})) != rows
    monkeypatch.setitem(BACKENDS, "sdpa", replace(BACKENDS["sdpa"], packed=small_alone))
    assert choose_kernel("eager", "auto", CPU, BF16, frozenset({256})) is BACKENDS["eager"].packed


@pytest.mark.parametrize(
    ("model_type", "values", "sizes"),
    [
        ("llama", {"hidden_size": 4096, "num_attention_heads": 32}, {128}),
        ("gemma3_text", {"hidden_size": 2560, "num_attention_heads": 8, "head_dim": 256}, {256}),
        ("qwen3", {"hidden_size": 1024, "num_attention_heads": 16, "head_dim": 128}, {128}),
        ("gpt_neox", {"hidden_size": 2560, "num_attention_heads": 32}, {80}),
        ("gpt2", {"n_embd": 768, "n_head": 12}, {64}),
        ("deepseek_v3", {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, {64, 128, 192}),
    ],
)
def test_the_sizes_of_a_base(model_type, values, sizes):
    assert head_sizes(CONFIG_MAPPING[model_type].from_dict(values)) == sizes


@pytest.mark.gpu
@pytest.mark.parametrize("size", [64, 80, 96, 128, 192, 256])
@pytest.mark.parametrize("backend", ["flash", "varlen", "sdpa"])
def test_what_a_gpu_computes(backend, size):
    """Says which sizes this machine's packages have; sizes of Llama must be among them."""
    device = torch.device("cuda")
    if not torch.cuda.is_available() or BACKENDS[backend].why_not(device, BF16):
        pytest.skip(f"needs a CUDA GPU with {backend}")
    why = why_not_size(BACKENDS[backend].packed, device, BF16, size, frozenset({"window"}))
    print(f"{backend}, {size}: {why or 'right'}")
    assert not why or size not in (64, 128)
