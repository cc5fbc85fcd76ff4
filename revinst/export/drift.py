"""The drift report: the adapter on its 4-bit base against each form that leaves the house, on held-out rows."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from revinst.data.encoding import encode_examples
from revinst.errors import UserError
from revinst.evaluation.examples import EvaluatedExamples, choose_examples
from revinst.export.drift_report import summarise_drift
from revinst.export.gguf import load_gguf
from revinst.inference.distributions import divergences, save_log_p
from revinst.inference.engine.engine import GenerationSettings, generate_batches
from revinst.inference.load import load_for_inference
from revinst.inference.trained import Trained
from revinst.model.base import load_base
from revinst.model.hardware import DTYPES, Machine, choose_dtype, free_bytes, pick_device
from revinst.model.network import Network
from revinst.model.proof import choose_proved
from revinst.progress import Stage, track

Load = Callable[[], Network]


class Drift:
    """Examples encoded once, and what the adapter on its base makes of them."""

    def __init__(self, trained: Trained, evaluated: EvaluatedExamples, dtype: torch.dtype, device: torch.device):
        self.trained, self.dtype, self.device = trained, dtype, device
        self.settings = GenerationSettings()
        self.documents = encode_examples(
            evaluated.examples,
            trained.template,
            trained.tokenizer,
            trained.seq_len,
            with_context=trained.with_context,
            cut=trained.cut,
        )
        if not len(self.documents):
            raise UserError("drift: no row fits in the model's row length")
        kept = set(self.documents.ids)
        self.examples = [example for example in evaluated.examples if example.id in kept]
        self.groups = [
            group for example, group in zip(evaluated.examples, evaluated.groups, strict=True) if example.id in kept
        ]
        self.encoded = trained.encode_to_generate(self.examples, self.settings.max_new_tokens)
        self.references = [prompt.target for prompt in self.encoded.prompts]

    def load_adapter(self) -> Network:
        """The values that training and evaluation see on this device: base and adapter rounded to its dtype."""
        dtype = DTYPES[choose_dtype(self.device)[0]]
        network = load_for_inference(
            self.trained.base, self.trained.adapter, self.device, self.trained.quantization, dtype, dequantize=True
        )
        return network.to(self.dtype)

    @property
    def attention(self) -> str:
        return choose_proved(self.trained.base, Machine(device=self.device, dtype=self.dtype)).attention

    def load_merged(self, folder: Path) -> Network:
        return Network(load_base(str(folder), self.device, "none", self.attention, self.dtype))

    def load_gguf(self, file: Path) -> Network:
        return Network(load_gguf(file, file.parent.parent, self.device, self.attention, self.dtype))

    def write_texts(self, network: Network) -> list[str]:
        """Greedy, one an example."""
        generated = {}
        with Stage("drift: greedy texts", len(self.encoded.ids)) as stage:
            for number, made in generate_batches(network, self.trained.tokenizer, self.encoded.ids, self.settings):
                generated[number] = made
                stage.advance(tokens=len(made.token_ids))
        return [
            self.trained.tokenizer.decode(generated[number].token_ids).strip()
            for number in range(len(self.encoded.ids))
        ]

    def measure(self, forms: Mapping[str, Load]) -> dict[str, Any]:
        """The report. forms: name -> loader; one network at a time is in memory."""
        report: dict[str, Any] = {
            "against": "the adapter on its base",
            "quantization": self.trained.loads_as,
            "computed_in": str(self.dtype).removeprefix("torch."),
            "rows": len(self.examples),
            "forms": {},
        }
        with tempfile.TemporaryDirectory() as work:
            network = self.load_adapter()
            log_p = save_log_p(network, self.documents, Path(work) / "log_p")
            texts = self.write_texts(network)
            for name in track(list(forms), "drift", "forms"):
                del network
                network = forms[name]()
                report["forms"][name] = summarise_drift(
                    divergences(log_p, network, self.documents),
                    texts,
                    self.write_texts(network),
                    self.references,
                    self.groups,
                )
        return report


def choose_drift_examples(trained: Trained, source: str | None, limit: int) -> EvaluatedExamples | None:
    """Held-out examples, or those of `source`. None, with a line that says why, where there are none."""
    if limit == 0:
        return None
    try:
        return choose_examples(trained, source, limit, allow_trained=True)
    except UserError as error:
        if source:
            raise
        print(f"no drift report: {error}", file=sys.stderr)
        return None


def dtype_that_fits(num_bytes: int, device: torch.device) -> torch.dtype | None:
    """fp32 on a CPU, where it fits, so that only the weights differ, else bf16; a GPU's own. None: there is no room.

    num_bytes: of the weights in bf16; half as much again is needed beside them.
    """
    if device.type == "cuda":
        return DTYPES[choose_dtype(device)[0]] if free_bytes(device) > 1.5 * num_bytes else None
    free = free_bytes(device)
    return torch.float32 if free > 3 * num_bytes else torch.bfloat16 if free > 1.5 * num_bytes else None


def prepare_drift(trained: Trained, evaluated: EvaluatedExamples, merged: Path) -> Drift:
    """Raises UserError where the machine has no room for the model."""
    device = pick_device()
    num_bytes = sum(path.stat().st_size for path in merged.glob("*.safetensors"))
    dtype = dtype_that_fits(num_bytes, device)
    if dtype is None:
        raise UserError(f"{1.5 * num_bytes / 2**30:.1f} GiB of free memory are needed")
    return Drift(trained, evaluated, dtype, device)
