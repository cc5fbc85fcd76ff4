"""A process on a made-up system: of Python, what Windows lacks is gone, and Triton and bitsandbytes are not installed.

    python tests/elsewhere.py '{"files": [...], "commands": [[...], ...]}'

Libraries are imported before, since they ask which system it is. Then every module of revinst is imported, and each of
the files; then `revinst` runs the commands. Prints one line of JSON: the error of each module that could not be
imported, and each command's exit code, stdout and stderr.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

NOT_INSTALLED = ("bitsandbytes", "triton", "flash_attn")
# https://docs.python.org/3/library/unix.html, https://docs.python.org/3/library/signal.html#module-contents
MODULES = ("fcntl", "resource", "grp", "pwd", "termios", "tty", "pty", "curses", "readline", "syslog", "posix")
NAMES = """\
    chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid
    getgroups getloadavg getpgid getpgrp getpriority getresgid getresuid getsid getuid initgroups killpg lchown lockf
    mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite
    pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid
    setgroups setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp ttyname uname wait wait3 wait4 waitid
    writev O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_SYNC WNOHANG
"""
SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN")  # there everywhere
LIBRARIES = """\
    torch torch.distributed torch.utils.tensorboard torch.utils.data lightning lightning.pytorch.loggers
    lightning.pytorch.cli transformers transformers.models.llama.modeling_llama peft datasets safetensors.torch
    torchmetrics nltk sacrebleu rich.progress jsonargparse tensorboard jinja2 pyarrow.parquet gigatoken psutil filelock
    inscriptis py3langid yaml multiprocessing.pool multiprocessing.util getpass
"""
KERNELS = (
    "revinst.model.fused.kernels",
    "revinst.model.fused.weight_kernels",
    "revinst.inference.engine.cached.kernels",
)  # Triton's own files


def main() -> None:
    asked = json.loads(sys.argv[1])
    hide_libraries()
    import_libraries()
    assert not any(name.startswith("revinst") for name in sys.modules)
    hide_system()
    import revinst

    package = Path(revinst.__path__[0])
    names = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.rglob("*.py")]
    names = [name.removesuffix(".__init__") for name in names]
    result: dict[str, Any] = {"imported": len(names), "failed": {}, "commands": []}
    for name in names:
        with keeping_errors(result["failed"], name):
            importlib.import_module(name)
    for file in asked["files"]:
        with keeping_errors(result["failed"], Path(file).stem):
            spec = importlib.util.spec_from_file_location(Path(file).stem, file)
            assert spec is not None and spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    result["commands"] = [run(command) for command in asked["commands"]]
    print(json.dumps(result))


def hide_libraries() -> None:
    for name in NOT_INSTALLED:
        sys.modules[name] = None  # type: ignore[assignment]
    version = importlib.metadata.version

    def version_elsewhere(name: str) -> str:
        if name in NOT_INSTALLED:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    importlib.metadata.version = version_elsewhere


def import_libraries() -> None:
    """With what they would import in a function."""
    for name in LIBRARIES.split():
        importlib.import_module(name)
    from lightning.pytorch.trainer.connectors import signal_connector

    signal_connector._IS_WINDOWS = True  # it asks for SIGUSR1 elsewhere


def hide_system() -> None:
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in NAMES.split():
        if hasattr(os, name):
            delattr(os, name)
    for name in dir(signal):
        if name.startswith("SIG") and name not in SIGNALS:
            delattr(signal, name)
    signal.valid_signals = lambda: {number for number in signal.Signals if number.name in SIGNALS}


@contextlib.contextmanager
def keeping_errors(errors: dict[str, str], name: str) -> Any:
    try:
        yield
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"


def run(command: list[str]) -> dict[str, Any]:
    """In this process. Its output goes to streams of a Windows console's encoding."""
    from revinst import cli

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="strict") for _ in range(2))
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(command)
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("cp1252"))  # type: ignore[attr-defined]
    return {"code": code, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    main()
