"""Property 2: a document's logits are the same packed with others as alone, for every attention backend."""

import pytest
import torch
from transformers import AttentionInterface, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, Needs, choose_attention, why_not_flash, why_not_varlen
from revinst.model.attention_interface import register_attention
from tests.tiny import tiny_config

SEQ_LENS = [5, 17, 1, 40, 17]
CASES = [
    pytest.param("eager"),
    pytest.param("sdpa"),
    pytest.param("sdpa", id="sdpa-equal-lengths"),
    pytest.param("varlen", marks=pytest.mark.gpu),
    pytest.param("flash", marks=pytest.mark.gpu),
]


def build_llama(backend: str, device: str, dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = tiny_config(vocab_size=512, hidden_size=256, intermediate_size=384)
    config._attn_implementation = register_attention(backend)
    return LlamaForCausalLM(config).to(device, dtype)


def packed_logits(model: LlamaForCausalLM, ids: torch.Tensor, seq_lens: list[int]) -> torch.Tensor:
    position_ids = torch.cat([torch.arange(n) for n in seq_lens])[None].to(ids.device)
    cu_seqlens = torch.tensor([0, *torch.tensor(seq_lens).cumsum(0)], dtype=torch.int32, device=ids.device)
    out = model(input_ids=ids, position_ids=position_ids, cu_seqlens=cu_seqlens, seq_lens=seq_lens, use_cache=False)
    return out.logits[0]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("backend", CASES)
def test_each_document_is_alone(backend, training, request):
    on_gpu = backend in ("flash", "varlen")
    device, dtype, bound = ("cuda", torch.bfloat16, 3e-2) if on_gpu else ("cpu", torch.float32, 1e-5)
    seq_lens = [20, 20, 20] if "equal" in request.node.callspec.id else SEQ_LENS
    model = build_llama(backend, device, dtype).train(training)
    ids = torch.randint(0, 512, (1, sum(seq_lens)), generator=torch.Generator().manual_seed(1)).to(device)
    with torch.no_grad():
        packed = packed_logits(model, ids, seq_lens).split(seq_lens)
        alone = [packed_logits(model, doc[None], [len(doc)]) for doc in ids[0].split(seq_lens)]
        # A different first document changes nothing in the others ...
        changed_ids = ids.clone()
        changed_ids[0, : seq_lens[0]] = (changed_ids[0, : seq_lens[0]] + 7) % 512
        changed = packed_logits(model, changed_ids, seq_lens).split(seq_lens)
        # ... though it would, were the row one document.
        joined = packed_logits(model, ids, [sum(seq_lens)]).split(seq_lens)
    scale = alone[1].abs().max()
    for number, (a, b) in enumerate(zip(packed, alone, strict=True)):
        assert (a - b).abs().max() <= bound * scale, f"document {number}"
    assert all(torch.equal(a, b) for a, b in zip(packed[1:], changed[1:], strict=True))
    assert not torch.equal(packed[0], changed[0])
    assert (packed[1] - joined[1]).abs().max() > 10 * bound * scale


@pytest.mark.gpu
def test_backends_agree():
    """flash, varlen and SDPA in bf16 within rounding of the eager reference in fp32, forward and gradients."""
    ids = torch.randint(0, 512, (1, sum(SEQ_LENS)), device="cuda")
    results = {}
    for backend in BACKENDS:
        dtype = torch.float32 if backend == "eager" else torch.bfloat16
        model = build_llama(backend, "cuda", dtype)
        logits = packed_logits(model, ids, SEQ_LENS).float()
        logits.square().mean().backward()
        results[backend] = (logits.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.float())
    reference = results.pop("eager")
    for backend, values in results.items():
        for got, expected in zip(values, reference, strict=True):
            error = ((got - expected).norm() / expected.norm()).item()
            print(f"{backend}: relative error {error:.1e}")
            assert error < 2e-2, backend


@pytest.mark.gpu
@pytest.mark.parametrize("extras", [{"window": 1}, {"window": 16}, {"soft_cap": 2.0}, {"window": 16, "soft_cap": 2.0}])
@pytest.mark.parametrize("backend", ["flash", "varlen", "sdpa"])
def test_windows_and_caps_are_the_textbooks(backend, extras):
    """In bf16 within rounding of eager in fp32, forward and gradients; what a kernel does not know is refused."""
    device, results = torch.device("cuda"), []
    if BACKENDS[backend].why_not(device, torch.bfloat16) or not extras.keys() <= BACKENDS[backend].knows:
        pytest.skip(f"{backend} does not compute it here")
    ends = torch.tensor([0, *torch.tensor(SEQ_LENS).cumsum(0)], dtype=torch.int32, device=device)
    for name, dtype in [(backend, torch.bfloat16), ("eager", torch.float32)]:
        torch.manual_seed(0)
        inputs = [torch.randn(sum(SEQ_LENS), heads, 64).to(device, dtype).requires_grad_() for heads in (4, 2, 2)]
        out = BACKENDS[name].packed(*inputs, 0.125, ends, SEQ_LENS, **extras)
        out.float().square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for got, expected in zip(*results, strict=True):
        assert (got.float() - expected).norm() < 3e-2 * expected.norm() + 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 1, 16, 40])
@pytest.mark.parametrize("backend", ["flash", "sdpa"])
def test_a_window_after_a_prefix_is_the_textbooks(backend, window):
    """The last tokens of each document beside keys and values of all of it."""
    device, prefix, results = torch.device("cuda"), 24, []
    if BACKENDS[backend].why_not(device, torch.bfloat16):
        pytest.skip(f"{backend} does not run here")
    extras = {} if window is None else {"window": window}
    longer = [length + prefix for length in SEQ_LENS]
    for name, dtype in [(backend, torch.bfloat16), ("eager", torch.float32)]:
        torch.manual_seed(0)
        q, k, v = (torch.randn(sum(longer), heads, 64).to(device, dtype) for heads in (4, 2, 2))
        last = torch.cat([torch.arange(length) >= prefix for length in longer]).to(device)
        lengths = longer if name == "eager" else SEQ_LENS
        ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=device)
        if name == "eager":
            results.append(BACKENDS[name].packed(q, k, v, 0.125, ends, lengths, **extras)[last])
        else:
            results.append(BACKENDS[name].after_prefix(q[last], k, v, 0.125, ends, lengths, **extras).float())
    assert (results[0] - results[1]).norm() < 2e-2 * results[1].norm()


def test_choice_is_explained():
    backend, reason = choose_attention(torch.device("cpu"), "auto", torch.bfloat16)
    assert backend == "sdpa" and "GPU" in reason


@pytest.mark.parametrize("why_not", [why_not_flash, why_not_varlen])
def test_fp32_is_not_for_kernels_of_16_bits(why_not):
    assert "fp32" in why_not(torch.device("cuda"), torch.float32)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("window", [1, 8, 16, 17, None])
def test_a_window_masks_what_it_masks_in_transformers(window, backend):
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=window, attn_implementation=register_attention(backend),
    )  # fmt: skip
    torch.manual_seed(0)
    model, ids = MistralForCausalLM(config).eval(), torch.randint(0, 64, (1, 34))
    packed = {lengths: packed_logits(model, ids, [*lengths]) for lengths in [(17, 17), (10, 24)]}
    model.set_attn_implementation("sdpa")
    for lengths, logits in packed.items():
        plain = torch.cat([model(part, use_cache=False).logits[0] for part in ids.split(lengths, dim=1)])
        assert (logits - plain).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("what", "words"), [({"softcap": 50.0}, "soft cap"), ({"s_aux": torch.zeros(2)}, "sinks"), ({}, "later")]
)
def test_what_a_kernel_does_not_know_is_refused(what, words):
    module = torch.nn.Identity()
    module.is_causal = bool(what)
    forward = AttentionInterface()[register_attention("sdpa")]
    q = torch.zeros(1, 2, 4, 8)
    with pytest.raises(UserError, match=words):
        forward(module, q, q, q, None, cu_seqlens=torch.tensor([0, 4]), seq_lens=[4], **what)


def test_auto_takes_a_kernel_that_knows_what_the_base_has():
    def choose(asked: str, *needs: str) -> str:
        return choose_attention(torch.device("cpu"), asked, torch.float32, needs=Needs(frozenset(needs)))[0]

    assert (
        choose("auto", "window") == "sdpa"
        and choose("auto", "window", "soft_cap") == choose("auto", "sinks") == "eager"
    )
    with pytest.raises(UserError, match=r"soft cap.*which sdpa does not compute; use model\.attention: auto"):
        choose("sdpa", "soft_cap")
