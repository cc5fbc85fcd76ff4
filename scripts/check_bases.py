"""Writes docs/bases.md: what becomes of the bases that people train, and of each causal type of the installed
transformers. With names it writes their lines alone anew.

PYTHONPATH=. python scripts/check_bases.py models/smollm2-135m [NAME ...]
"""

import argparse
import signal
import sys
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from revinst.errors import UserError
from revinst.model.proof import prove
from revinst.options import Parser
from tests.model.base_cases import TYPES, Case, check, check_all_linear, tiny_config
from tests.model.base_chain import BASES, Figures, run_chain

TIMEOUT_S = 180
PAGE, TEXT = Path("docs/bases.md"), Path("scripts/bases.md")


def check_type(model_type: str) -> tuple[Case, Case]:
    """(packed rows, the default adapter), at the default config."""
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
    if not case.what.startswith("by the proof"):  # some defaults are no whole config
        config = tiny_config(model_type)
    with TemporaryDirectory() as folder:
        return case, check_all_linear(config, Path(folder))


def in_words(case: Case) -> str:
    if case.status not in ("refused", "untested"):
        return case.status + (f" ({case.what})" if case.what == "by the proof alone" else "")
    _, _, what = case.what.partition(": ")
    return f"{case.status}: {(what or case.what).replace('|', '/')[:170]}"


def line_of(name: str, tokenizer: Path) -> str:
    """Of a type or of one of `BASES`."""
    if name in BASES:
        with TemporaryDirectory() as folder:
            figures = run_chain(BASES[name], Path(folder), tokenizer)
        return f"| {name} | {BASES[name].model_type} | {' | '.join(cells(figures))} |"
    signal.alarm(TIMEOUT_S)
    try:
        case, adapter = check_type(name)
    except TimeoutError as error:
        case, adapter = Case("untested", str(error)), Case("")
    signal.alarm(0)
    return f"| {name} | {in_words(case)} | {in_words(adapter).replace('exact', 'yes')} |"


def cells(figures: Figures) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.0e}"

    same, of = figures.texts or (0, 0)
    texts = f"{figures.engine}, {same} of {of}" if of else ""
    if figures.refused:
        return [number(figures.loss), texts, figures.refused.replace("|", "/"), "", "", "", ""]
    kls = (figures.kl_nf4, figures.kl_16bit, figures.kl_adapter)
    gguf = figures.no_gguf or number(figures.kl_gguf)
    return [number(figures.loss), texts, number(figures.isolation), *map(number, kls), gguf]


def stop(*_: object) -> None:
    raise TimeoutError(f"more than {TIMEOUT_S} s")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="a folder with the quickstart model's")
    parser.add_argument("names", nargs="*", help="types, or bases of the first table; default: all")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in PAGE.read_text().splitlines() if "|" in line}
    for name in args.names or [*TYPES, *BASES]:
        lines[name] = line_of(name, args.tokenizer)
        print(lines[name], file=sys.stderr, flush=True)
    counts = Counter(lines[name].split(" | ")[1].split(":")[0].split(" ")[0] for name in TYPES)
    found = {
        "version": transformers.__version__,
        "counts": ", ".join(f"{number} {status}" for status, number in counts.most_common()),
        "types": "\n".join(lines[name] for name in TYPES),
        "bases": "\n".join(lines[name] for name in BASES),
    }
    PAGE.write_text(TEXT.read_text().format(**found))


if __name__ == "__main__":
    main()
