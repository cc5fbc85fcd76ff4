"""Records as they lie in a hub data set, a folder or a file: (where, record) pairs, unchecked."""

import csv
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from revinst.errors import UserError
from revinst.system import allow_long_csv_fields

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
MAX_RECORD_BYTES = 10_000_000


class BadRecord(ValueError):
    """Why a record can't become an `Example`; whoever reads it adds where."""


def read_records(name: str) -> Iterator[tuple[str, object]]:
    """Yields (where, record) for each record of one source; what can't be parsed comes as a BadRecord."""
    if name == "quickstart":
        yield from read_file(Path(str(files("revinst.data").joinpath("quickstart.jsonl"))))
        return
    path = Path(name).expanduser()
    if path.is_file():
        yield from read_file(path)
    elif path.is_dir():
        yield from read_folder(path)
    elif path.suffix in FILE_SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"{name}: no such file or folder; check data.source")
    else:
        yield from read_hub(name)


def read_folder(path: Path) -> Iterator[tuple[str, object]]:
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        from datasets import DatasetDict, load_from_disk

        dataset = load_from_disk(str(path))
        parts = dict(dataset) if isinstance(dataset, DatasetDict) else {"train": dataset}
        if "train" in parts:  # a test part is somebody else's held-out part, as on the hub
            parts = {"train": parts["train"]}
        for part, records in parts.items():
            yield from ((f"{path}[{part}]:{number}", record) for number, record in enumerate(records))
        return
    found = sorted(file for file in path.iterdir() if file.suffix in FILE_SUFFIXES)
    if not found:
        raise UserError(f"{path}: no {', '.join(FILE_SUFFIXES)} file in this folder")
    for file in found:
        yield from read_file(file)


def read_hub(name: str) -> Iterator[tuple[str, object]]:
    from datasets import load_dataset

    try:
        records = load_dataset(name, split="train")
    except Exception as error:  # the hub client raises many kinds: offline, unknown id, gated, no such split
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{name}: neither a file nor a data set that the hub gave ({reason})") from error
    yield from ((f"{name}:{number}", record) for number, record in enumerate(records))


def read_file(path: Path) -> Iterator[tuple[str, object]]:
    readers = {".jsonl": read_jsonl, ".json": read_json_list, ".csv": read_csv, ".parquet": read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; give {', '.join(FILE_SUFFIXES)}")
    try:
        yield from reader(path)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())  # pyarrow's have several lines
        raise UserError(f"{path}: can't be read ({reason})") from error


def read_jsonl(path: Path) -> Iterator[tuple[str, object]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", parse_json_line(line)


def parse_json_line(line: bytes) -> object:
    if len(line) > MAX_RECORD_BYTES:
        return BadRecord(f"the line is {len(line):,} bytes long, more than {MAX_RECORD_BYTES:,}")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRecord(f"not UTF-8 (byte {error.start})")
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of too many digits
        return BadRecord(f"not JSON ({error})")


def read_json_list(path: Path) -> Iterator[tuple[str, object]]:
    try:
        records = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: a .json file must hold one list of rows; one row a line belongs in .jsonl")
    yield from ((f"{path}[{number}]", record) for number, record in enumerate(records))


def read_csv(path: Path) -> Iterator[tuple[str, object]]:
    allow_long_csv_fields()
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _ = reader.fieldnames  # reads the header
            first_line = reader.line_num + 1  # a quoted field may span several lines: a record is named by its first
            for record in reader:
                where, first_line = f"{path}:{first_line}", reader.line_num + 1
                short_or_long = None in record or None in record.values()
                yield where, BadRecord("another number of columns than the header") if short_or_long else record
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}:{reader.line_num}: not a CSV file in UTF-8 ({error})") from None


def read_parquet(path: Path) -> Iterator[tuple[str, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches():
            for record in batch.to_pylist():
                yield f"{path}[{number}]", record
                number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
