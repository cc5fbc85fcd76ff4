"""Options of how to write: decoding, several samples and which of them is taken."""

import argparse
import sys
from dataclasses import replace

from revinst.config.words import DTYPES, ENGINES, PICKS, UTILITIES
from revinst.errors import UserError
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import NUM_SAMPLES, PickSettings, choose_picks
from revinst.launch.ranks import Ranks


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """`--limit` and how to decode; read back by `read_generation_settings`."""
    parser.add_argument("--limit", type=int, help="only the first N rows")
    most = "of what is written, at most (default: 100 of an instruction, 400 of a text)"
    parser.add_argument("--max_new_tokens", type=int, help=most)
    parser.add_argument("--temperature", type=float, help="0: greedy (default: that, or 0.7 for several samples)")
    parser.add_argument("--top_p", type=float, default=1.0, help="sample from the likeliest tokens of this probability")
    parser.add_argument("--top_k", type=int, default=0, help="sample from this many tokens (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--batch_size", type=int, help="rows decoded together, at most (default: the device's best)")
    engines = "slots: ours, for most decoders; hf: transformers' generate"
    parser.add_argument("--engine", choices=ENGINES, default="auto", help=engines)
    parser.add_argument("--memory_gib", type=float, help="for weights and cache (default: what is free)")
    precision = (
        "of the computation (default: the device's best). fp32: texts that depend on nothing decoded beside them"
    )
    parser.add_argument("--precision", choices=DTYPES, help=precision)
    fp8 = "read prompts with products in 8 bits (compute capability 8.9 and later)"
    parser.add_argument("--fp8_prefill", action="store_true", help=fp8)


def add_pick_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Read back by `read_pick_settings`. default: of `--pick`."""
    counts = f"{NUM_SAMPLES['cuda']} on a GPU, {NUM_SAMPLES['cpu']} on a CPU"
    few = f"default: 1; with another --pick {counts}" if default == "greedy" else f"default: {counts}"
    parser.add_argument("--samples", type=int, metavar="K", help=f"sample K texts for one ({few})")
    taken = f"which is taken: the greedy one, or of the samples (default: {default})"
    parser.add_argument("--pick", choices=PICKS, help=taken)
    parser.add_argument("--utility", choices=UTILITIES, default="rougeL", help="likeness that consensus goes by")


def read_pick_settings(options: argparse.Namespace, default: str, device: str = "cpu") -> tuple[PickSettings, float]:
    """And the temperature that goes with it. Raises UserError for values that mean nothing."""
    asked = (options.samples, options.pick, options.utility, options.temperature)
    return choose_picks(*asked, default=default, device=device)


def read_decoding(
    options: argparse.Namespace, default: str, ranks: Ranks, new_tokens: int
) -> tuple[GenerationSettings, PickSettings]:
    """How to write and pick on this machine, and a line that says so. default: of `--pick`; "": none is picked.
    new_tokens: of the run, where nothing is asked for.
    """
    from revinst.model.fused.fp8 import why_no_fp8
    from revinst.model.hardware import choose_hardware, pick_device

    if options.fp8_prefill and (obstacle := why_no_fp8(choose_hardware(pick_device()))):
        raise UserError(f"--fp8_prefill: {obstacle}; leave it out")
    device = pick_device().type
    picks, temperature = read_pick_settings(options, default, device)
    if ranks.is_first and (picks.samples > 1 or default == "consensus"):
        print(f"samples: {picks.say(temperature, device)}", file=sys.stderr)
    settings = replace(read_generation_settings(options), temperature=temperature)
    return replace(settings, max_new_tokens=options.max_new_tokens or new_tokens), picks


def check_generation_options(options: argparse.Namespace) -> None:
    """Raises UserError for values that mean nothing."""
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: must be at least 1")
    read_generation_settings(options, options.precision or DTYPES[0])


def read_generation_settings(options: argparse.Namespace, precision: str | None = None) -> GenerationSettings:
    """Decides the precision where it is not given, and says so."""
    if not (precision := precision or options.precision):
        from revinst.model.hardware import choose_dtype, pick_device

        precision, reason = choose_dtype(pick_device())
        print(f"precision: {precision}: {reason}", file=sys.stderr)
    names = GenerationSettings.__dataclass_fields__
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return GenerationSettings(**given | {"precision": precision})
