"""Recomputing activations changes memory, never the gradient."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from revinst.model.attention_interface import register_attention
from revinst.model.network import Network
from revinst.model.recompute import count_recomputed_layers, recompute_layers

SEQ_LENS = [30, 50]


def gradients_and_saved_bytes(count: int) -> tuple[list[torch.Tensor], int]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4
    )
    config._attn_implementation = register_attention("sdpa")
    model = LlamaForCausalLM(config).train()
    if count:
        recompute_layers(Network(model), range(count))
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.randint(0, 128, (1, sum(SEQ_LENS)))
    position_ids = torch.cat([torch.arange(n) for n in SEQ_LENS])[None]
    cu_seqlens = torch.tensor([0, 30, 80], dtype=torch.int32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.model(
            input_ids=ids, position_ids=position_ids, cu_seqlens=cu_seqlens, seq_lens=SEQ_LENS, use_cache=False
        ).last_hidden_state
    hidden.square().sum().backward()
    return [p.grad for p in model.model.parameters()], sum(saved.values())


def test_gradients_are_equal_and_memory_falls():
    reference, kept = gradients_and_saved_bytes(0)
    assert sum(g.abs().sum() for g in reference) > 1
    last = kept
    for count in (1, 3):
        gradients, saved = gradients_and_saved_bytes(count)
        assert all(torch.equal(a, b) for a, b in zip(reference, gradients, strict=True))
        assert saved < 0.75 * last
        last = saved


def test_budget_decides_how_many_layers_recompute():
    gib = 2.5
    layer_bytes = gib * 2**30
    counts = [count_recomputed_layers(32, budget, layer_bytes, None) for budget in (0, gib * 1.5, gib * 32.01)]
    assert counts == [32, 31, 0]
    free = [count_recomputed_layers(32, "auto", layer_bytes, gib * layers / 0.8) for layers in (-1, 0.5, 3.01, 40)]
    assert free == [32, 32, 29, 0] and count_recomputed_layers(32, "auto", layer_bytes, None) == 0
