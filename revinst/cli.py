"""The `revinst` command: picks a command's module and turns errors into exit codes."""

import importlib
import io
import os
import sys
import time
from types import ModuleType

import revinst
from revinst.errors import UserError
from revinst.launch.ranks import follow_agent, is_first_process, is_of_agent
from revinst.options import say_nearest
from revinst.system import forgive_encodings

COMMANDS = {
    "init": "a folder with a commented config to begin with",
    "fetch": "the quickstart's model, from the package index",
    "fit": "train an adapter into runs/NAME",
    "evaluate": "score a run on its held-out rows, beside baselines",
    "score": "score predictions of any system, beside baselines; no model",
    "compare": "test runs against each other on the same rows",
    "generate": "write an instruction for each text of a file or folder",
    "corpus": "own texts to a filtered instruction data set",
    "merge": "write a standalone model with the adapter merged in",
    "demo": "a page on this machine to try a run",
    "publish": "upload an adapter, a merged model or a data set; private by default",
    "plan": "what a config will cost in memory, time and disk; loads nothing",
    "inspect": "show what a config makes of its data; loads no model",
}


def main(argv: list[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 the user can fix it, 143 or 130 stopped, 1 our bug (traceback)."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help"):
        print_usage()
        sys.exit(0)
    if args[0] == "--version":
        print(f"revinst {revinst.__version__}")
        sys.exit(0)
    if args[0] == "--completion":
        from revinst.config.completion import write_completion

        print(write_completion({name: command_of(name).build_options() for name in COMMANDS}))
        sys.exit(0)
    if args[0] not in COMMANDS:
        meant = say_nearest(args[0], COMMANDS) or f"; choose from {', '.join(COMMANDS)}"
        print(f"revinst: unknown command {args[0]!r}{meant}", file=sys.stderr)
        sys.exit(2)
    set_environment()
    forgive_encodings()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a log of both streams then has their lines in order
        sys.stdout.reconfigure(line_buffering=True)
    follow_agent()
    try:
        status = command_of(args[0]).main(args[1:])
    except (UserError, OSError) as error:
        # OSError: missing permissions, a full disk, a read-only folder; the path and the reason are in the error.
        wait_for_first()
        print(f"revinst {args[0]}: {error}", file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, MemoryError) as error:
        from revinst.model.memory import advise, is_out_of_memory  # late: `--help` shall not load PyTorch

        if not is_out_of_memory(error):
            raise
        what = (str(error).splitlines() or ["memory ran out"])[0][:300]
        print(f"revinst {args[0]}: {what}; {advise(args[0])}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"revinst {args[0]}: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status)


def command_of(name: str) -> ModuleType:
    return importlib.import_module(f"revinst.commands.{name}")


def wait_for_first() -> None:
    """A mistake that all ranks make is the first one's to say; its end then ends this process, through the launcher."""
    if not is_first_process() and not is_of_agent():
        time.sleep(3)


def print_usage() -> None:
    print("usage: revinst COMMAND ...   (revinst COMMAND --help for its options)\n")
    for name, purpose in COMMANDS.items():
        print(f"  {name:10} {purpose}")
    print("\nTo begin: `revinst init mine` writes a commented config into a folder and says what to type next.")
    print("Tab completion, in bash and zsh:  source <(revinst --completion)")


def set_environment() -> None:
    """Before heavy imports: no parallel-tokenizer warnings after forks, no advice from libraries."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


if __name__ == "__main__":
    main()
