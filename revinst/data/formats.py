"""Files of rows: which kinds there are, how one is unpacked and decoded, and its records, unchecked."""

import codecs
import csv
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from revinst.data.invisible import clean_name
from revinst.data.language import find_script
from revinst.data.unpacked import PACKED_SUFFIXES, UTF_8, open_text, open_unpacked, read_lines
from revinst.errors import UserError
from revinst.system import allow_long_csv_fields

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".ndjson", ".tsv")
MAX_RECORD_BYTES = 10_000_000
WESTERN = "WINDOWS-1252"
USUAL = {
    "": WESTERN,
    "latin": WESTERN,
    "cyrillic": "WINDOWS-1251",
    "greek": "WINDOWS-1253",
    "hebrew": "WINDOWS-1255",
} | {"arabic": "WINDOWS-1256"}
LOOK_AT_BYTES = 100_000  # of a file whose encoding is guessed
SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
OTHER_NUMBER = "another number of columns than the header"
Records = Iterator[tuple[str, object]]


class BadRecord(ValueError):
    """Why a record can't become an `Example`; whoever reads it adds where."""


def to_utf_8(path: Path) -> str:
    """What to do about a file that is not in UTF-8; which encoding it is in nobody can be certain of."""
    from charset_normalizer import from_bytes

    with open_unpacked(path) as file:
        content = file.read(LOOK_AT_BYTES)
    if b"\0" in content:
        return "it is no text at all: see what kind of file it is (a table of Excel's, an archive?)"
    found = from_bytes(content).best()
    script = find_script(str(found)) if found is not None else ""
    # Those of one byte a letter are told apart by letters that a file may not have, so it is the usual one.
    name = USUAL.get(script) or (found.encoding.upper() if found is not None else WESTERN)
    return f"convert the file: iconv -f {name} -t UTF-8 OLD > NEW (it looks like {name}; see whether NEW reads well)"


def kind_of(path: Path) -> str:
    """`part.JSONL.gz` -> `.jsonl`; "" for what holds no rows."""
    name = Path(path.name.lower())
    suffix = (name.with_suffix("") if name.suffix in PACKED_SUFFIXES else name).suffix
    return suffix if suffix in FILE_SUFFIXES else ""


def read_file(path: Path) -> Records:
    """Yields (where, record) for each record; what can't be parsed comes as a BadRecord."""
    reader = READERS.get(kind_of(path))
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of file {path.suffix!r}; give {', '.join(FILE_SUFFIXES)}, as they are or packed "
            f"({', '.join(PACKED_SUFFIXES)})"
        )
    try:
        for where, record in reader(path):
            yield where, clean_columns(record)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or " ".join(str(error).split())
        raise UserError(f"{path}: can't be read ({reason})") from error  # pyarrow's reasons have several lines
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not {error.encoding} (byte {error.start}); {to_utf_8(path)}") from None


def clean_columns(record: object) -> object:
    """The record with its columns' names as they read."""
    if not isinstance(record, dict):
        return record
    names = [clean_name(name) for name in record]
    if names == list(record):
        return record
    if len({*names}) < len(names):
        return BadRecord(f"two columns are named {next(name for name in names if names.count(name) > 1)!r}")
    return dict(zip(names, record.values(), strict=True))


# ---- JSON ------------------------------------------------------------------------------------------------------------


def look_ahead(path: Path) -> tuple[bytes, bool]:
    """(first line that is not blank, whether there are more)."""
    with closing(read_lines(path)) as lines:
        filled = filter(None, (line.removeprefix(codecs.BOM_UTF8).strip() for line in lines))
        return next(filled, b""), next(filled, None) is not None


def read_jsonl(path: Path) -> Records:
    """One record a line; a file that begins with a bracket and is one list, as that list."""
    if look_ahead(path)[0].startswith(b"["):
        try:
            records = parse_list(path)
        except UserError:  # then its lines say what is wrong
            pass
        else:
            yield from records
            return
    yield from read_json_lines(path)


def read_json(path: Path) -> Records:
    """One list of records; or one record a line, if there are several."""
    first, has_more = look_ahead(path)
    is_lines = has_more and first.startswith(b"{") and not isinstance(parse_json_line(first, path), BadRecord)
    yield from read_json_lines(path) if is_lines else parse_list(path)


def read_json_lines(path: Path) -> Records:
    for number, line in enumerate(read_lines(path), start=1):
        if line.removeprefix(codecs.BOM_UTF8).strip():
            yield f"{path}:{number}", parse_json_line(line, path)


def parse_json_line(line: bytes, path: Path) -> object:
    if len(line) > MAX_RECORD_BYTES:
        return BadRecord(f"the line is {len(line):,} bytes long, more than {MAX_RECORD_BYTES:,}")
    try:
        return json.loads(line.decode(UTF_8))
    except UnicodeDecodeError as error:
        return BadRecord(f"not UTF-8 (byte {error.start}); {to_utf_8(path)}")
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of too many digits
        return BadRecord(f"not JSON ({error})")


def parse_list(path: Path) -> Records:
    try:
        records = json.loads(b"".join(read_lines(path)).decode(UTF_8))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: a .json file must hold one list of rows, or one row a line")
    return ((f"{path}[{number}]", record) for number, record in enumerate(records))


# ---- tables ----------------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> Records:
    allow_long_csv_fields()
    reader, before = None, 0
    try:
        before, delimiter = find_header(path)
        with open_text(path) as text:
            reader = csv.reader(islice(text, before, None), delimiter=delimiter, strict=True)
            header = next(reader, [])
            check_names(header, path)
            first_line = before + reader.line_num + 1  # a quoted field may span lines: a record is named by its first
            for cells in reader:
                where, first_line = f"{path}:{first_line}", before + reader.line_num + 1
                if not any(cell.strip() for cell in cells):  # below its rows Excel writes empty ones
                    continue
                is_whole = len(cells) == len(header)
                yield where, dict(zip(header, cells, strict=True)) if is_whole else BadRecord(OTHER_NUMBER)
    except (csv.Error, UnicodeDecodeError) as error:
        advice = f"; {to_utf_8(path)}" if isinstance(error, UnicodeDecodeError) else ""
        line = before + (reader.line_num if reader else 0)
        raise UserError(f"{path}:{line}: not a CSV file in UTF-8 ({error}){advice}") from None


def find_header(path: Path) -> tuple[int, str]:
    """(how many lines lie before it: blank ones, and one such as `sep=;`, which Excel reads; the delimiter)."""
    with open_text(path) as text:
        for number, line in enumerate(text):
            if hint := SEPARATOR.fullmatch(line):
                return number + 1, hint[1]
            if line.strip():
                return number, find_delimiter(path, number)
    return 0, ","


def find_delimiter(path: Path, before: int = 0) -> str:
    """The one that makes the most columns of the header, which lies below `before` lines; a .tsv's is a tab if any."""

    def count_columns(delimiter: str) -> int:
        with open_text(path) as text:
            return len(next(csv.reader(islice(text, before, None), delimiter=delimiter), []))

    return "\t" if kind_of(path) == ".tsv" and count_columns("\t") > 1 else max(",;\t|", key=count_columns)


def check_names(names: Sequence[str], path: Path) -> None:
    """Of two columns of one name a record could hold but one. Those without a name are nobody's."""
    cleaned = [name for name in map(clean_name, names) if name]
    if twice := next((name for name in cleaned if cleaned.count(name) > 1), ""):
        raise UserError(f"{path}: two columns are named {twice!r}; rename one")


def read_parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        source = path
        if path.suffix.lower() in PACKED_SUFFIXES:
            with open_unpacked(path) as file:
                source = pa.BufferReader(file.read())
        file = pq.ParquetFile(source)
        check_names(file.schema_arrow.names, path)
        labels = read_labels(file.schema_arrow.metadata)
        for batch in file.iter_batches():
            for record in batch.to_pylist():
                yield f"{path}[{number}]", name_labels(record, labels)
                number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None


def read_labels(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column -> its classes' names, which `datasets` writes beside the numbers that stand for them."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # somebody else's, or of another version
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    return {}


def name_labels(record: dict[str, object], labels: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The record with the names of its classes; -1 is none's."""
    for column, names in labels.items():
        number = record.get(column)
        if isinstance(number, int) and number < len(names):
            record[column] = names[number] if number >= 0 else None
    return record


READERS: dict[str, Callable[[Path], Records]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
