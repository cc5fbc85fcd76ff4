"""The loss of heads with large vocabularies on a GPU: memory within what `revinst plan` counts for logits."""

import time

import pytest
import torch

from revinst.model.memory import GIB, LOGIT_BYTES
from revinst.model.network import CHUNK_TARGETS, ChunkedLoss, nll

pytestmark = pytest.mark.gpu
TARGETS = 16_384


@pytest.mark.parametrize(
    ("name", "hidden", "vocabulary"),
    [("Llama 2", 4096, 32_000), ("Llama 3", 4096, 128_256), ("Qwen 3", 4096, 151_936), ("Gemma 3", 2560, 262_208)],
)
def test_the_heads_memory(name, hidden, vocabulary):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    torch.manual_seed(0)
    cuda = torch.device("cuda")
    head = torch.nn.Linear(hidden, vocabulary, bias=False, device=cuda, dtype=torch.bfloat16).requires_grad_(False)
    states = torch.randn(TARGETS, hidden, device=cuda, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(vocabulary, (TARGETS,), device=cuda)
    for _ in range(2):  # the first allocates cuBLAS's workspace
        states.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held, since = torch.cuda.memory_allocated(), time.perf_counter()
        losses = ChunkedLoss.apply(states, lambda h: head(h).float(), nll, targets)
        peak = (torch.cuda.max_memory_allocated() - held) / GIB
        losses.mean().backward()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - since
    planned = CHUNK_TARGETS * vocabulary * LOGIT_BYTES / GIB
    gradient = states.numel() * 2 / GIB
    print(f"{name}, {vocabulary:,}: {peak:.2f} GiB of {planned + gradient:.2f} planned, {1000 * seconds:.0f} ms")
    assert peak <= planned + gradient + 0.01
    some = slice(0, 64)
    logits = (states.detach()[some].float() @ head.weight.float().T).requires_grad_()
    expected = nll(logits, targets[some])
    torch.testing.assert_close(losses[some], expected, rtol=0.02, atol=0.02)
    expected.sum().backward()
    gradient = logits.grad @ head.weight.float() / TARGETS
    got = states.grad[some].float()
    assert (got - gradient).norm() < 0.02 * gradient.norm()
