"""Decoding steps as CUDA graphs: one launch instead of hundreds."""

import torch
from torch import Tensor

from revinst.inference.engine.cache import Cache
from revinst.inference.engine.decoder import Decoder


class StepGraphs:
    """A graph for each of a few numbers of sequences, captured when needed; the rest of one writes to free slots."""

    def __init__(self, decoder: Decoder, cache: Cache):
        self.decoder, self.cache = decoder, cache
        self.sizes = sorted({max(1, cache.num_slots >> shift) for shift in range(10)})
        self.tokens = torch.zeros(cache.num_slots, dtype=torch.int64, device=decoder.device)
        self.lengths = torch.zeros_like(self.tokens)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def step(self, tokens: Tensor, lengths: Tensor, n: int) -> Tensor:
        """`Decoder.step` of the first n sequences; its logits are overwritten by the next call."""
        size = next(size for size in self.sizes if size >= n)
        self.tokens[:n], self.lengths[:n] = tokens[:n], lengths[:n]
        self.tokens[n:size], self.lengths[n:size] = 0, 0
        if size not in self.graphs:
            self.graphs[size] = self.capture(size)
        graph, logits = self.graphs[size]
        graph.replay()
        return logits[:n]

    def capture(self, size: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        arguments = (self.tokens[:size], self.lengths[:size], self.cache, self.cache.num_positions)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels compile and libraries take their memory before the capture
            self.decoder.step(*arguments)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.decoder.step(*arguments)
        return graph, logits
