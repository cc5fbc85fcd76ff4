"""Records of a hub data set, a folder or a file as (where, record), unchecked; which files of a folder are read."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from revinst.data.declared import read_declared
from revinst.data.formats import FILE_SUFFIXES, Records, clean_columns, kind_of, name_labels, read_file
from revinst.data.unpacked import PACKED_SUFFIXES
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process
from revinst.progress import write

if TYPE_CHECKING:
    from datasets import Dataset

SHIPPED = ("quickstart", "multilingual")  # rows that come with revinst
# As in test-00000-of-00002, train_sft, TestSet, devtest: no other letter before or after.
TRAIN = r"(?<![a-z])train(?:ing)?(?:set|split|data)?(?![a-z])"
NOT_TRAIN = (
    r"(?<![a-z])(?:test(?:s|ing)?|valid(?:ation)?|val|dev(?:el|elopment)?|eval(?:uation)?|held[-_ ]?out|hold[-_ ]?out)+"
    r"(?:set|split|data)?(?![a-z])"
)
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # myTest is my_test
# What lies beside rows and holds none.
BESIDE = re.compile(
    r"(readme|licen[cs]e|copying|notice|citation|changelog|authors|contributing|_success)\b.*|dataset_(info|infos)\.json"
)
BESIDE_SUFFIXES = {
    ".md", ".rst", ".txt", ".pdf", ".htm", ".html", ".py", ".ipynb", ".yml", ".yaml", ".toml", ".cfg", ".ini", ".bib",
    ".cff", ".sh", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".lock", ".crc", ".md5", ".sha1", ".sha256", ".sha512",
}  # fmt: skip


def read_records(name: str) -> Records:
    """Yields (where, record) for each record of one source; what can't be parsed comes as a BadRecord."""
    path = find_source(name)
    if path is None:
        yield from read_hub(name)
    else:
        yield from read_folder(path) if path.is_dir() else read_file(path)


def find_source(name: str) -> Path | None:
    """The file or folder; None for a data set of the hub. Raises UserError where there can be none."""
    if name in SHIPPED:
        return Path(str(files("revinst.data").joinpath(f"{name}.jsonl")))
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return path
    if kind_of(path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"{name}: no such file or folder; check data.source")
    return None


def read_hub(name: str) -> Records:
    from datasets import load_dataset

    try:
        records = load_dataset(name, split="train")
    except Exception as error:  # the hub client raises many kinds: offline, unknown id, gated, no such split
        raise UserError(f"{name}: neither a file nor a data set that the hub gave ({shorten_reason(error)})") from error
    yield from number_records(name, records)


def number_records(name: str, dataset: "Dataset") -> Records:
    """(where, record) of a data set, with the names of its classes."""
    from datasets import ClassLabel

    labels = {column: kind.names for column, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
    for number, record in enumerate(dataset):
        yield f"{name}:{number}", clean_columns(name_labels(record, labels))


def shorten_reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def read_folder(path: Path) -> Records:
    """All files of a folder and of those in it, in order of their paths; of parts named as such the training part.

    Parts are what the folder's README.md declares, or else what the names of files and folders say.
    """
    if (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("dataset_info.json", "state.json")
    ):
        yield from read_saved(path)
        return
    declared = {name: part_of(part) for name, part in read_declared(path).items()}
    tell = (lambda name: declared.get(name, "other")) if declared else part_of
    for name in choose_parts(path, list_files(path), tell):
        yield from read_file(path / name)


def read_saved(path: Path) -> Records:
    """A folder that `datasets` saved."""
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except Exception as error:  # many kinds: JSON that was cut, a file that is gone, a damaged table
        raise UserError(
            f"{path}: saved by datasets, and can't be read ({shorten_reason(error)}); save it again"
        ) from error
    parts = dict(dataset) if isinstance(dataset, DatasetDict) else {"train": dataset}
    for part in choose_parts(path, list(parts)):
        yield from number_records(f"{path}[{part}]", parts[part])


def list_files(path: Path) -> list[str]:
    """Files with rows, relative to the folder. Raises UserError for one that can't be read; hidden ones don't count."""
    rows, beside = [], []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if any(part.startswith((".", "__")) for part in name.parts):
            continue
        if file.is_dir():
            if file.is_symlink():
                raise UserError(f"{file}: a link to a folder is not followed; name it in data.source")
        elif kind_of(file) and not is_beside(name.name):
            rows.append(name.as_posix())
        elif is_beside(name.name):
            beside.append(name.as_posix())
        else:
            raise UserError(
                f"{file}: no kind of file that rows are read from ({', '.join(FILE_SUFFIXES)}, as they are or with "
                f"{', '.join(PACKED_SUFFIXES)}); convert it or move it out of the folder"
            )
    if not rows:
        raise UserError(f"{path}: no {', '.join(FILE_SUFFIXES)} file in this folder")
    check_once(path, rows)
    if beside:
        say(f"{path}: {shorten(beside)} beside the rows, not read")
    return rows


def check_once(path: Path, names: Iterable[str]) -> None:
    """Raises UserError for a file that lies there in two forms: packed and unpacked, as JSON and as a table."""
    first_of: dict[str, str] = {}
    for name in names:
        if (first := first_of.setdefault(stem_of(name), name)) != name:
            how = "unpacked" if name.startswith(f"{first}.") else f"as {first}"
            raise UserError(f"{path}: {name} lies there {how} too, and its rows would count twice; move one away")


def stem_of(name: str) -> str:
    """`data/part.JSONL.gz` -> `data/part`."""
    path = Path(name)
    return str((path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path).with_suffix(""))


def choose_parts(path: Path, names: list[str], tell: Callable[[str], str] | None = None) -> list[str]:
    """The names to train on: of train and test the first; all where no name says that it is another part.

    tell: which part a name is, as `part_of` does.
    """
    parts: dict[str, list[str]] = {"train": [], "other": [], "": []}
    for name in names:
        parts[(tell or part_of)(name)].append(name)
    if not parts["other"]:
        if parts["train"] and parts[""]:
            say(f"{path}: {shorten(parts[''])} read too, though only {shorten(parts['train'])} named as training rows")
        return names
    if not parts["train"] or parts[""]:
        unnamed = f", and {shorten(parts[''])} as none" if parts[""] else ""
        raise UserError(
            f"{path}: {shorten(parts['other'])} named as another part than training{unnamed}; "
            "name the files to train on in data.source"
        )
    say(f"{path}: {shorten(parts['train'])} read; {shorten(parts['other'])} left out as another part than training")
    return parts["train"]


def part_of(name: str) -> str:
    """`train`, `other` or "": by the file's name, or else by the folder nearest to it that says it."""
    for each in reversed(CAPITAL.sub("_", name).lower().split("/")):
        if re.search(NOT_TRAIN, each):
            return "other"
        if re.search(TRAIN, each):
            return "train"
    return ""


def shorten(names: Iterable[str]) -> str:
    """At most three of them."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


@cache
def say(line: str) -> None:
    """Once: a source may be read several times."""
    if is_first_process():
        write(line)


def is_beside(name: str) -> bool:
    return bool(BESIDE.fullmatch(name.lower())) or Path(name).suffix.lower() in BESIDE_SUFFIXES
