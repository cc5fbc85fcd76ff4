"""Prompts as ids in, new ids out: by our own slots, or by transformers' `generate`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError
from revinst.inference.engine.decoder import Decoder
from revinst.inference.engine.hf import generate_with_transformers
from revinst.inference.engine.sampling import Picking
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.engine.slots import decode_sequences
from revinst.inference.engine.stopping import Stopping
from revinst.inference.engine.support import needs_of, why_no_fp8_prefill, why_not_decoder
from revinst.model.hardware import choose_hardware, free_bytes
from revinst.model.network import Network
from revinst.model.rope import trained_length

MAX_SLOTS = {"cuda": 1024, "cpu": 96}  # 96 are 1.14 times as fast on a CPU as 32
CACHE_SHARE = 0.85  # of the memory that is free beside model and decoder


@dataclass(frozen=True, slots=True)
class Generated:
    """New ids without what ended them; log_p in nats, of that too. stopped: `eos`, `header` or `length`."""

    token_ids: list[int]
    stopped: str
    log_p: float


class Engine:
    """Writes with one model as often as it is asked to.

    Its decoder is built at the first call, with the adapter on or off as it is then; later calls write with that one,
    whatever became of the model. headers: of the template, which end a text as EOS does.
    """

    def __init__(
        self, network: Network, tokenizer: Tokenizer, settings: GenerationSettings, headers: Sequence[str] = ()
    ):
        self.network, self.tokenizer, self.settings = network, tokenizer, settings
        stopping = Stopping(tokenizer, headers)
        self.picking = Picking(stopping, settings.temperature, settings.top_p, settings.top_k, settings.seed)
        obstacle = "" if settings.engine == "hf" else why_not_decoder(network)
        if obstacle and settings.engine == "slots":
            raise UserError(f"--engine slots: not for this model ({obstacle}); use --engine auto")
        if obstacle:
            print(f"transformers' generate writes: {obstacle}", file=sys.stderr)
        self.in_slots = settings.engine != "hf" and not obstacle
        if settings.fp8_prefill and (why_not := obstacle or why_no_fp8_prefill(network)):
            raise UserError(f"--fp8_prefill: {why_not}; leave it out")
        self.decoder: Decoder | None = None

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[list[int]],
        limits: Sequence[int] | None = None,
        samples: Sequence[int | None] | None = None,
    ) -> Iterator[tuple[int, Generated]]:
        """Yields (number of the prompt, what was generated) as sequences end, about longest prompts first.

        limits: of new tokens, for each prompt; default: the settings'. samples: which sample of its prompt each is,
        default 0, None is the greedy text: for k of them give a prompt k times, each with another, and its prefill
        is shared. Results do not depend on what is decoded beside a prompt but for rounding. The model's modes are as
        before afterwards.
        """
        if not prompts:
            return
        limits = list(limits or [self.settings.max_new_tokens] * len(prompts))
        samples = list(samples or [0] * len(prompts))
        picking = (
            self.picking if any(sample is not None for sample in samples) else replace(self.picking, temperature=0)
        )
        with self.network.in_eval_mode():
            if self.in_slots:
                decoder, slots = self.build_decoder(), self.settings.batch_size or MAX_SLOTS[self.device.type]
                budget = int(CACHE_SHARE * self.free_bytes() // decoder.cache_bytes)
                ended = decode_sequences(
                    decoder, prompts, limits, picking, budget=budget, max_slots=slots, samples=samples
                )
            else:
                given, size = list(zip(prompts, limits, samples, strict=True)), self.settings.batch_size or 16
                if max(len(prompt) + limit for prompt, limit, _ in given) > trained_length(self.network.base.config):
                    size = 1
                ended = generate_with_transformers(self.network, self.tokenizer, given, picking, size)
            for sequence in ended:
                yield sequence.number, Generated(sequence.new_ids, sequence.stopped, sequence.log_p)

    def build_decoder(self) -> Decoder:
        if self.decoder is None:
            fp8_prefill, size, free = self.settings.fp8_prefill, dense_bytes(self.network), self.free_bytes()
            dense = (2.5 if fp8_prefill else 2) * size < free
            if fp8_prefill and not dense:
                raise UserError(
                    f"--fp8_prefill: it needs {2.5 * size / 2**30:.1f} GiB for weights in 16 and 8 bits and a cache, "
                    f"and {free / 2**30:.1f} are free; leave it out"
                )
            hardware = choose_hardware(self.device, dtype=self.network.dtype, needs=needs_of(self.network))
            self.decoder = Decoder(self.network, hardware.attention, dense, fp8_prefill)
        return self.decoder

    @property
    def device(self) -> torch.device:
        return self.network.device

    def free_bytes(self) -> int:
        """Of memory that may be taken, beside model and decoder."""
        free, limit_gib = free_bytes(self.device), self.settings.memory_gib
        if limit_gib is None:
            return free
        if self.device.type == "cuda":
            used = torch.cuda.memory_allocated(self.device)
        else:
            used = dense_bytes(self.network) if self.decoder and self.decoder.dense else 0
        return min(free, int(limit_gib * 2**30) - used)


def generate_batches(
    network: Network,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    settings: GenerationSettings,
    limits: Sequence[int] | None = None,
    *,
    headers: Sequence[str] = (),
    samples: Sequence[int | None] | None = None,
) -> Iterator[tuple[int, Generated]]:
    """`Engine.generate` with the network as it is now, for one call."""
    return Engine(network, tokenizer, settings, headers).generate(prompts, limits, samples)


def dense_bytes(network: Network) -> int:
    """Of the decoder layers' linear weights, unpacked."""
    linear = [m for m in network.layers.modules() if isinstance(m, torch.nn.Linear) and hasattr(m, "weight")]
    return network.dtype.itemsize * sum(m.in_features * m.out_features for m in linear)
