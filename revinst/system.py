"""What Linux, macOS and Windows do differently, each in one function. No module that one of them lacks is imported."""

import csv
import os
import sys
from pathlib import Path

IS_WINDOWS = os.name == "nt"


def sync(path: Path) -> None:
    """Makes a file's content, or a rename in a folder, survive a power cut.

    Windows opens no folders, and flushes no file that is open to read alone.
    """
    if IS_WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def peak_bytes() -> int:
    """The most memory that this process has held at once."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage would begin with the peak of the process that started this one
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def allow_long_csv_fields() -> None:
    """Lifts the limit of 131,072 characters a field that `csv` has; it holds a C long, of 32 bits on Windows."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def count_processors() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forgive_encodings() -> None:
    """What a console can't show becomes a `?`. Windows gives pipes and files one of 256 characters, not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def quiet_libraries() -> None:
    """Leaves the screen to our own lines."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="(transformers|peft|torchmetrics|bitsandbytes).*")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
