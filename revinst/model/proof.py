"""Whether packed rows are computed as plain transformers computes their documents; asked before a base is loaded.

What is compared is a tiny random copy of the base (`tiny_copy.py`), in fp32, on the device and with the kernel that
will be used: it costs no memory and a fraction of a second for a base of any size, needs no weights, so that `plan` and
`fit` refuse before anything is loaded, and everything in it matters. In trained layers of a 7B a lost window, a cap or
a scale near one may drown in the rounding of 16 bits, and no window can be lowered without touching the base itself.
What it can't see is a file that was read wrong: that is transformers' own loading in both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from revinst.data.batch import MicroBatch
from revinst.errors import UserError
from revinst.model.attention import BACKENDS, Needs
from revinst.model.attention_interface import register_recorder
from revinst.model.base import read_config
from revinst.model.fused.support import fuse_layers
from revinst.model.fused.support import why_not as why_not_layer
from revinst.model.hardware import DTYPES, Hardware, Machine, choose_for_machine
from revinst.model.network import Network
from revinst.model.rope import BY_LENGTH
from revinst.model.tiny_copy import WINDOW, Values, head_sizes, tiny_copy

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

DOCUMENTS = (20, 150)  # tokens: the second is longer than the trained length, and than 128, as blocks of tokens are
LARGEST = 60_000_000  # parameters of the copy
BOUND = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-2}


@dataclass(frozen=True, slots=True)
class Proof:
    """needs: of `attention.EXTRAS`, what the base's attention asks for."""

    reason: str
    needs: frozenset[str]


class NoCopy(Exception):
    """Why there is no tiny copy of a base."""


def choose_proved(base: str, machine: Machine, attention: str = "auto", quantization: str = "none") -> Hardware:
    """What a machine computes a base with. attention, quantization: as asked for. Raises UserError where it can't, or
    where packed rows come out wrong with it; of a GPU that is not here, with the textbook.
    """
    config = read_config(base)
    proof = prove(base, config)
    needs = Needs(proof.needs, head_sizes(config))
    hardware = choose_for_machine(machine, attention, quantization, needs)
    if machine.is_here:
        in_fp32 = not BACKENDS[hardware.attention].why_not(machine.device, torch.float32)
        dtype = torch.float32 if in_fp32 else DTYPES[hardware.dtype]
        proof = prove(base, config, hardware.attention, machine.device, dtype)
    return replace(hardware, reasons=hardware.reasons | {"packed rows": proof.reason})


def prove(
    base: str,
    config: "PreTrainedConfig",
    attention: str = "eager",
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Proof:
    """Compares packed documents with lone ones of plain transformers. dtype: in which the attention is computed.

    Draws nothing from the global random state. Raises UserError, in one line that names what differs. Asked again in
    this process it answers from memory.
    """
    device, told = device or torch.device("cpu"), f"model.base {base}: packed rows of {config.model_type}"
    try:
        if config.get_text_config() is not config:
            raise UserError(
                f"{told} are not computed: it reads more than text; scripts/write_text_part.py writes its part"
            )
        tiny = tiny_copy(config)
        asked = (tiny.to_json_string(use_diff=False), attention, str(device), dtype)
        if asked not in PROVED:
            with forked():
                PROVED[asked] = Plain(tiny, device).prove(attention, dtype)
    except UserError:
        raise
    except NoCopy as error:
        raise UserError(f"{told} could not be compared with plain transformers ({error}); see docs/bases.md") from error
    except KeyError as error:  # a table of its own attention classes
        raise UserError(f"{told} can't be computed: its attention takes no other kernel (KeyError {error})") from error
    except Exception as error:  # a model that knows no packed rows fails in its own way
        raise UserError(f"{told} can't be computed ({first_line(error)})") from error
    if isinstance(verdict := PROVED[asked], str):
        raise UserError(f"{told} would not be what plain transformers computes: {verdict}")
    return verdict


def why_not_fused(config: "PreTrainedConfig", device: torch.device) -> str:
    """Why what is read of a base's layers (`fused/description.py`) is not what they compute; empty if it is."""
    with forked():
        plain = Plain(tiny_copy(config), device)
        network = plain.network(register_recorder("eager", torch.float32, set()))
        network.requires_grad_(False)  # a layer whose weights are trained is not fused
        numbers = [number for number, layer in enumerate(network.layers) if not why_not_layer(layer)]
        if not numbers:
            return "no layer of its tiny copy is fused, and nothing can be compared"
        rows = pack(plain.documents)
        expected = network.hidden(rows)[0]
        fuse_layers(network.layers, numbers, 0, BACKENDS["eager"].packed)
        differs = difference(network.hidden(rows)[0], expected, torch.float32)
    if differs < BOUND[torch.float32]:  # a nan is not
        return ""
    return f"its layers compute something else than is read of them (differ by {100 * differs:.2g} %)"


PROVED: dict[tuple[str, str, str, torch.dtype], "Proof | str"] = {}  # or what differs


@contextmanager
def forked() -> Iterator[None]:
    """On the CPU, whatever is the default device, and in all bits of fp32; random state and precision are as before
    afterwards.
    """
    from transformers.utils import logging

    precision, verbosity = torch.get_float32_matmul_precision(), logging.get_verbosity()
    torch.set_float32_matmul_precision("highest")
    logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            torch.manual_seed(0)
            yield
    finally:
        logging.set_verbosity(verbosity)
        torch.set_float32_matmul_precision(precision)


class Plain:
    """The tiny copy as transformers runs it, each document alone."""

    def __init__(self, config: "PreTrainedConfig", device: torch.device):
        self.config = config
        try:
            self.model = build_random(self.config)
            torch.nn.Module.to(self.model, device)
            generator = torch.Generator().manual_seed(3)
            self.documents = [
                torch.randint(10, 500, (n,), generator=generator, device="cpu").to(device) for n in DOCUMENTS
            ]
            self.logits = torch.cat(
                [self.model(input_ids=ids[None], use_cache=False).logits[0] for ids in self.documents]
            )
        except Exception as error:  # a config of any kind, shrunk: any error
            raise NoCopy(first_line(error)) from error

    def prove(self, attention: str, dtype: torch.dtype) -> Proof | str:
        """Or what differs."""
        needs: set[str] = set()
        error, isolation = self.compare(attention, dtype, needs)
        worst = max(error, isolation)
        if worst < BOUND[dtype]:  # a nan is not
            return Proof(f"computed as by plain transformers (differ by {worst:.0e} in a tiny copy)", frozenset(needs))
        return f"{self.what_differs(attention, dtype, error)} (logits differ by {100 * worst:.2g} %)"

    def compare(self, attention: str, dtype: torch.dtype, needs: set[str] | None = None) -> tuple[float, float]:
        """(lone documents against plain ones, packed ones against lone ones)."""
        network = self.network(register_recorder(attention, dtype, set() if needs is None else needs))
        alone = torch.cat([network.logits(network.hidden(pack([ids]))[0]) for ids in self.documents])
        packed = network.logits(network.hidden(pack(self.documents))[0])
        return difference(alone, self.logits, dtype), difference(packed, alone, dtype)

    def network(self, attention: str) -> Network:
        from transformers import AutoModelForCausalLM

        config = deepcopy(self.config)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
        model.load_state_dict(self.model.state_dict())
        return Network(model.to(self.model.device)).eval()

    def what_differs(self, attention: str, dtype: torch.dtype, error: float) -> str:
        for what, config in without_each(self.config):
            try:
                without = Plain(config, self.model.device).compare(attention, dtype)
            except (NoCopy, UserError):
                continue
            if max(without) < BOUND[dtype]:
                return f"{what} are not computed"
        if error < BOUND[dtype]:
            return "documents of one row see each other"
        longest = self.documents[-1:]
        hidden = self.model.get_decoder()(input_ids=longest[0][None], use_cache=False)[0]
        packed = self.network(register_recorder(attention, dtype, set())).hidden(pack(longest))
        if difference(packed[0], hidden[0], dtype) < BOUND[dtype]:
            return "what follows its head is not known"
        return "its decoder computes something else"


def without_each(config: "PreTrainedConfig") -> Iterator[tuple[str, "PreTrainedConfig"]]:
    """Tiny copies without a kind of what may differ."""
    values: Values = config.to_dict()
    wide = {name: 10**4 for name, value in values.items() if value == WINDOW and ("window" in name or "chunk" in name)}
    caps = {name: None for name, value in values.items() if "attn" in name and "softcap" in name and value}
    rope = values.get("rope_parameters") or {}
    by_length = {"rope_parameters": rope | {"rope_type": "default"}} if rope.get("rope_type") in BY_LENGTH else {}
    kinds: dict[str, Values] = {
        "its sliding windows": wide,
        "soft caps on its scores": caps,
        "rotary angles of texts beyond the trained length": by_length,
    }
    for what, change in kinds.items():
        if change:
            yield what, type(config).from_dict(values | change)


def build_random(config: "PreTrainedConfig") -> "PreTrainedModel":
    """Random in everything, norms and biases too, so that nothing that is dropped goes unseen."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(deepcopy(config)).parameters())
    if size > LARGEST:
        raise NoCopy(f"it has {size / 1e6:.0f} million parameters")
    config = deepcopy(config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for name, p in model.named_parameters():
        if p.dim() == 1 and any(part in name for part in ("norm", "bias", "sink")):
            p.add_((0.1 if "norm" in name else 0.3) * torch.randn_like(p))
        elif p.dim() > 1 and not p.any():
            p.add_(0.1 * torch.randn_like(p))
    return model


def pack(documents: list[Tensor]) -> MicroBatch:
    lengths, device = [len(ids) for ids in documents], documents[0].device
    ids = torch.cat(documents)[None]
    places = torch.cat([torch.arange(length, device=device) for length in lengths])
    ends = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    return MicroBatch(ids, ids, places[None], ends, ids[0], lengths, ["row"])


def difference(a: Tensor, b: Tensor, dtype: torch.dtype) -> float:
    """Relative, of the token that differs most. In 16 bits the median of the document that does: an expert that
    rounding chose otherwise is one token's, and what is wrong with few tokens was seen in fp32 (`prove`).
    """
    of_each = (a - b).norm(dim=-1) / b.norm(dim=-1)  # [T]
    if dtype == torch.float32 or len(of_each) < sum(DOCUMENTS):
        return of_each.max().item()
    return max(part.median().item() for part in of_each.split(DOCUMENTS))


def first_line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:160]}".strip()
