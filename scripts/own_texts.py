"""Own texts from start to end on a CPU: 60 made mails -> instructions -> a personal model, scored beside its base.

    python scripts/own_texts.py                       # make own-texts; about 8 minutes on 2 cores
    python scripts/own_texts.py --run runs/quickstart # with a run that is there already

Ends with 1 unless the personal model's held-out loss is below its base's. What is there already is not made again.
"""

import argparse
import json
import sys
from pathlib import Path

from made_mail import ME, write_mbox

from revinst.launch.ranks import run_command
from revinst.options import Parser


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/own-texts"), help="where everything is written")
    parser.add_argument("--run", help="writes the instructions; default: a short training on the quickstart rows")
    parser.add_argument("--steps", type=int, default=30, help="of that training")
    parser.add_argument("--epochs", type=int, default=3, help="of the personal model")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    mails, own = work / "mail.mbox", work / "own"
    if not mails.is_file():
        print(f"{len(write_mbox(mails))} made mails in {mails}")
    if options.run is None:
        options.run = str(work / "backward")
        steps = ("--trainer.max_steps", str(options.steps), "--samples.every_steps", "0")
        run("fit", "--config", "configs/quickstart.yaml", "--runs_dir", str(work), "--run_name", "backward", *steps)
    # A short training writes rough instructions: only what is no instruction at all is filtered.
    loose = ("--filter", "min_gain=-0.1", "--filter", "max_ifd=1.1", "--filter", "max_rifd=off")
    choices = ("--redact", "--samples", "2", "--max_new_tokens", "40", "--heldout", "0.2", *loose)
    run("corpus", str(mails), str(own), "--run", options.run, "--me", ME, *choices)
    personal = (
        "--config",
        "configs/personal.yaml",
        "--runs_dir",
        str(work),
        "--data.source",
        str(own / "dataset.jsonl"),
    )
    size = (
        "--data.split",
        str(own / "split.json"),
        "--data.seq_len",
        "384",
        "--trainer.max_epochs",
        str(options.epochs),
    )
    run("fit", *personal, *size)
    run("evaluate", str(work / "personal"), "--max_new_tokens", "60")
    scores = json.loads((work / "personal" / "evaluation" / "max-60" / "scores.json").read_text())
    tuned, base = scores["tuned"]["loss"], scores["base"]["loss"]
    print(f"held-out loss of {scores['n']} own texts: base {base:.3f}, personal {tuned:.3f}")
    return 0 if tuned < base else 1


def run(*args: str) -> None:
    """One revinst command; ends the script where it fails."""
    print(f"$ revinst {' '.join(args)}", flush=True)
    if code := run_command(*args):
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
