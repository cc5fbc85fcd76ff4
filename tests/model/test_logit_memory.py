"""What a chunk of logits takes at its peak, counted on the CPU; `test_head_gpu.py` asks a GPU."""

from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from revinst.model.after_head import read_after_head
from revinst.model.memory import CAP_BYTES, LOGIT_BYTES
from revinst.model.network import CHUNK_TARGETS, ChunkedLoss, Network, nll

VOCABULARY = 4096


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, LOGIT_BYTES),
        ({"logit_scale": 0.5}, LOGIT_BYTES),
        ({"final_logit_softcapping": 30.0}, LOGIT_BYTES + CAP_BYTES),
    ],
)
def test_bytes_of_a_logit(values, expected):
    after_head = read_after_head(SimpleNamespace(model_type="gemma2", **values))
    head = torch.nn.Linear(8, VOCABULARY, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    states = torch.randn(2 * CHUNK_TARGETS, 8, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(VOCABULARY, (len(states),))
    logits = partial(Network.logits, SimpleNamespace(head=head, after_head=after_head))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        ChunkedLoss.apply(states, logits, nll, targets).mean().backward()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    assert peak / (CHUNK_TARGETS * VOCABULARY) == pytest.approx(expected, abs=0.1)
