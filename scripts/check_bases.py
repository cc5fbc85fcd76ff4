"""Writes docs/bases.md: what becomes of each causal type of the installed transformers, at its default config.

PYTHONPATH=. python scripts/check_bases.py [TYPE ...] [--output docs/bases.md]
"""

import argparse
import signal
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from revinst.errors import UserError
from revinst.model.proof import prove
from tests.model.base_cases import TYPES, Case, check, check_all_linear

TIMEOUT_S = 90
ABOUT = """# Bases

Before a base is loaded, `fit`, `plan` and whatever scores compare a tiny random copy of it, packed, with plain
transformers (`revinst/model/proof.py`), and refuse in one line if they differ. `scripts/check_bases.py` made this table
of the causal types of transformers {version}: {counts}.

- **exact**: the packed loss is the sum of plain transformers' losses of lone documents (eager, fp32, relative 1e-5).
- **refused**: by the line beside it, before anything is loaded.
- **untested**: no tiny copy of its default config can be built and run by transformers itself, so `fit` refuses it too;
  a released config of that type may be another matter, and is asked again when it is given.

What is computed beside causal attention: sliding windows in every backend; soft caps of scores in `flash` and `eager`;
attention sinks in `eager`; scales and caps of logits (Granite, Cohere, Gemma); rotary angles that depend on a text's
length (`dynamic`, `longrope`), of each document by its own. `model.attention: auto` takes a backend that knows what a
base has. Llama's layers alone are fused and written in slots; other bases run plain layers and transformers' generate.

What stays refused, and why: a state that runs on from one document into the next (Mamba, RWKV, short convolutions
without `causal_conv1d`); attention classes of a model's own, which take no kernel but theirs (GPT-J, Falcon, BLOOM);
encoders and decoders with attention to another text; classes that read more than text, of which a base of the text part
alone can be given. `all-linear` names routers and experts of some mixtures, which are no linear layers: name the layers
of attention there (`model.lora.target_modules: [q_proj, k_proj, v_proj, o_proj]`). Experts that are one tensor for all
stay in 16 bits.

| type | packed rows | `all-linear` |
| --- | --- | --- |
"""


def check_type(model_type: str) -> tuple[Case, Case]:
    """(packed rows, the default adapter)."""
    try:
        config = CONFIG_MAPPING[model_type]()
    except Exception as error:
        return Case("untested", f"no default config: {type(error).__name__}"), Case("")
    case = check(model_type)
    try:
        prove("it", config)
        if case.status == "untested":
            case = Case("exact", "by the proof alone")
    except UserError as error:
        if case.status != "exact":
            case = Case("untested" if "could not be compared" in str(error) else "refused", str(error))
    if case.status != "exact":
        return case, Case("")
    with TemporaryDirectory() as folder:
        return case, check_all_linear(config, Path(folder))


def in_words(case: Case) -> str:
    if case.status not in ("refused", "untested"):
        return case.status + (f" ({case.what})" if case.what == "by the proof alone" else "")
    _, _, what = case.what.partition(": ")
    return f"{case.status}: {(what or case.what).replace('|', '/')[:170]}"


def stop(*_: object) -> None:
    raise TimeoutError(f"more than {TIMEOUT_S} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", default=TYPES)
    parser.add_argument("--output", type=Path, default=Path("docs/bases.md"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    lines, counts = [], Counter[str]()
    for model_type in args.types:
        signal.alarm(TIMEOUT_S)
        try:
            case, adapter = check_type(model_type)
        except TimeoutError as error:
            case, adapter = Case("untested", str(error)), Case("")
        signal.alarm(0)
        counts[case.status] += 1
        lines.append(f"| {model_type} | {in_words(case)} | {in_words(adapter).replace('exact', 'yes')} |")
        print(lines[-1], flush=True)
    told = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    args.output.write_text(ABOUT.format(version=transformers.__version__, counts=told) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
